//! Writes the Rust words for mlx-c's headers: `mlx-bindgen MLX_C_DIR OUT.rs [CLANG_ARGUMENT…]`.
//!
//! The options are those of mlx-sys's own build script, which cannot run on Linux; the lines put in front are what clang
//! finds on an ARM Mac, where C has 16-bit floats. Called by `setup.sh`.

use std::error::Error;

const HALF_FLOATS: &str = r#"
#[repr(transparent)]
#[derive(Debug, Default, Copy, Clone)]
pub struct __BindgenFloat16(pub u16);
pub type float16_t = __BindgenFloat16;
pub type bfloat16_t = u16;
extern "C" {
    pub fn mlx_array_item_float16(res: *mut float16_t, arr: mlx_array) -> ::std::os::raw::c_int;
    pub fn mlx_array_item_bfloat16(res: *mut bfloat16_t, arr: mlx_array) -> ::std::os::raw::c_int;
    pub fn mlx_array_data_float16(arr: mlx_array) -> *const float16_t;
    pub fn mlx_array_data_bfloat16(arr: mlx_array) -> *const bfloat16_t;
}
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mlx_c, out, clang @ ..] = arguments.as_slice() else {
        return Err("usage: mlx-bindgen MLX_C_DIR OUT.rs [CLANG_ARGUMENT…]".into());
    };
    let bindings = bindgen::Builder::default()
        .rust_target("1.73.0".parse()?)
        .raw_line(HALF_FLOATS)
        .clang_arg(format!("-I{mlx_c}"))
        .clang_args(clang)
        .blocklist_function("malloc")
        .blocklist_function("realloc")
        .header(format!("{mlx_c}/mlx/c/mlx.h"))
        .generate()?;
    Ok(bindings.write_to_file(out)?)
}
