// std::format for compilers that lack it (GCC 12): mlx-c's private/io.h uses it with plain "{}" only, without including
// <format>. Force-included into mlx-c; with a newer compiler it includes the real one.
#pragma once
#if defined(__cplusplus)
#if __has_include(<format>)
#include <format>
#else
#include <sstream>
#include <string>
#include <string_view>
namespace std {
inline void mlxc_format_rest(ostringstream& out, string_view text) { out << text; }

template <class First, class... Rest>
void mlxc_format_rest(ostringstream& out, string_view text, const First& first, const Rest&... rest) {
  auto place = text.find("{}");
  if (place == string_view::npos) {
    out << text;
    return;
  }
  out << text.substr(0, place) << first;
  mlxc_format_rest(out, text.substr(place + 2), rest...);
}

template <class... Arguments>
string format(string_view text, const Arguments&... arguments) {
  ostringstream out;
  mlxc_format_rest(out, text, arguments...);
  return out.str();
}
}  // namespace std
#endif
#endif
