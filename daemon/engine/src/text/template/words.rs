//! Which variables a template reads, told by its words alone: it is not compiled, which a stranger's may make costly.
//!
//! Only `Template` asks.

/// Whether a template reads a variable that is not always its own: one that it never sets, or only where nobody else has.
pub fn read(source: &str, name: &str) -> bool {
    let words = words(source);
    let at = |place: usize| words.get(place).copied().unwrap_or_default();
    let (mut read, mut set, mut asked) = (false, false, false);
    for place in (0..words.len()).filter(|place| words[*place] == name) {
        let before = if place > 0 { at(place - 1) } else { "" };
        let given = at(place + 1) == "=" && at(place + 2) != "=";
        match before {
            // A member of something else.
            "." => {}
            "set" | "for" => set = true,
            // An argument by its name.
            _ if given => {}
            _ => read = true,
        }
        let is_not = if at(place + 2) == "not" { 3 } else { 2 };
        asked |= at(place + 1) == "is" && at(place + is_not) == "defined";
    }
    read && (asked || !set)
}

/// The names and signs of a template's code, without its texts and comments.
fn words(source: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = source;
    // One pass: a search for each opening would go over the rest of a long template for every one of them.
    while let Some(open) = rest.find('{') {
        rest = &rest[open + 1..];
        if let Some(comment) = rest.strip_prefix('#') {
            rest = comment.split_once("#}").map_or("", |(_, after)| after);
        } else if let Some(piece) = rest.strip_prefix(['{', '%']) {
            rest = code(piece, &mut words);
        }
    }
    words
}

/// Adds the words of one piece of code, and returns what follows it.
fn code<'a>(source: &'a str, words: &mut Vec<&'a str>) -> &'a str {
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("}}") || rest.starts_with("%}") {
            return &rest[2..];
        }
        let length = match first {
            '"' | '\'' => quoted(rest, first),
            _ if is_of_name(first) => rest.find(|letter| !is_of_name(letter)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        if !first.is_whitespace() && !matches!(first, '"' | '\'') {
            words.push(&rest[..length]);
        }
        rest = &rest[length..];
    }
    rest
}

/// How long a text between quotes is, with both of them.
fn quoted(source: &str, quote: char) -> usize {
    let mut escaped = false;
    let end = source.char_indices().skip(1).find(|(_, letter)| {
        let ends = *letter == quote && !escaped;
        escaped = *letter == '\\' && !escaped;
        ends
    });
    end.map_or(source.len(), |(at, _)| at + 1)
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_read_where_code_names_it_and_nothing_else_sets_it_first() {
        let reads = [
            "{% if thinking %}x{% endif %}",
            "{%- if not thinking is defined -%}{%- set thinking = false -%}{%- endif -%}{{ thinking }}",
            "{%- if thinking is not defined %}{% set thinking = true %}{% endif %}",
            "{{ 'a }} \\' b' ~ thinking }}",
            "{{ f(x=thinking) }}{{ thinking == 'on' }}",
        ];
        for source in reads {
            assert!(read(source, "thinking"), "{source}");
        }
        let others = [
            "You are thinking {{ 'thinking' }} {{ \"thinking\" }} {# if thinking #}",
            "{{ message.thinking }}{{ message['thinking'] }}{{ enable_thinking }}{{ thinking_budget }}",
            "{% set thinking = message.thought %}{{ thinking }}",
            "{% for thinking in thoughts %}{{ thinking }}{% endfor %}",
            "{{ f(thinking=1) }}",
            "{{ 'never closed thinking",
            "",
        ];
        for source in others {
            assert!(!read(source, "thinking"), "{source}");
        }
    }
}
