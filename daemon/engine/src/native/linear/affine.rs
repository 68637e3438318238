//! Affine 4- and 8-bit weights as tiles of 16 outputs, and their product with int8 activations.
//!
//! A tile walks the inputs group by group. A group is a run of 64-byte lines, then 16 scales, then 16 biases, so a
//! product reads one forward stream. In a line, dword r belongs to output r: with 8 bits its bytes are inputs
//! k..k+4; with 4 bits byte i holds input k+i in the low and k+4+i in the high half. The bits are those of the
//! checkpoint, in the same space; scales stay bf16 where they were, and are f32 otherwise.
//!
//! Per output and group: sum = fma(dot, scale * x.scale, sum), then fma(bias, x.sum, sum). `dot` is an exact integer,
//! so every instruction set gives the same bits.
//!
//! Where sums of bytes are cheaper than their products, 4-bit weights are multiplied in *pairs*, after Winograd (IEEE Trans.
//! Comput. C-17, 1968): v x + w y = (v + y)(w + x) - v w - y x. That halves the products and adds no rounding; what weights and
//! inputs give by themselves is computed once.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod scalar;

use super::Affine;
use super::columns::{Columns, FITTED, Form, GROUP_MAX, Layout, PAIRED_LIMIT};
use super::finish::{Finish, WIDE, finish};
use crate::native::amx as unit;
use crate::native::memory::{Memory, Scratch, Shared, fetch, share};
use crate::native::{Avx512, Dtype, Isa, Pool, ShapeError, from_bf16};
use std::mem::MaybeUninit;

/// Outputs of a tile: the 32-bit lanes of the widest vector.
const ROWS: usize = 16;
/// Up to this many rows, every thread quantizes all of them for itself: cheaper than waiting for each other.
const PRIVATE_ROWS: usize = 12;
/// Tiles that a thread takes at a time, and that stay in its cache while the columns pass.
const TILES: usize = 4;
const _: () = assert!(TILES.is_multiple_of(2), "two tiles go together");
/// Blocks of columns that stay in cache while a thread's tiles pass.
const BLOCKS: usize = 11;
/// Columns of a kernel call at most: rows of a tile unit.
const COLUMNS: usize = unit::ROWS;
/// From so many rows on, a tile unit multiplies them: opening weights for fewer costs as much as it saves.
const TILED: usize = 32;
/// From so many columns on, pairs are faster: for fewer, taking weights apart costs as much as it saves.
const PAIRED: usize = 6;
/// From so many columns on, two tiles of 4-bit weights in cache share what is loaded of them, where that is what products wait
/// for. Of eight they are as fast one after the other; two streams of memory are read slower than one, and 8-bit weights, which
/// both halves of the columns read from the second cache, gain nothing.
const SHARING: usize = 10;
/// How far ahead weights are fetched, in bytes: into the second cache, which takes more lines at a time, and from there into
/// the first. With 4 to 16 rows it gains 20 %, and where memory is fast a third with one.
const AHEAD: [usize; 2] = [32 << 10, 4 << 10];
/// The same for tiles that are in the second cache by now.
const AGAIN: [usize; 2] = [0, 512];

/// How a tile lies in memory.
#[derive(Clone, Copy)]
struct Format {
    inputs: usize,
    /// 4 or 8, which hold any width below them.
    bits: usize,
    group: usize,
    /// Scales and biases are bf16; otherwise f32.
    narrow: bool,
}

impl Format {
    fn of(matrix: &Affine<'_>) -> Format {
        Format {
            inputs: matrix.inputs,
            bits: matrix.packed_bits(),
            group: matrix.group,
            // Powers of two and twelve halves of them are exact in bf16.
            narrow: matches!(matrix.dtype, Dtype::Bf16 | Dtype::E8m0),
        }
    }

    /// Bytes of a group's quantized weights.
    fn weight_bytes(&self) -> usize {
        ROWS * self.group * self.bits / 8
    }

    /// Bytes of a group with its scales and biases.
    fn group_bytes(&self) -> usize {
        self.weight_bytes() + 2 * ROWS * if self.narrow { 2 } else { 4 }
    }

    fn groups(&self) -> usize {
        self.inputs / self.group
    }

    fn tile_bytes(&self) -> usize {
        self.groups() * self.group_bytes()
    }

    /// Bytes of what a tile's pairs give: a u16 for each activation group and output.
    fn pairs_bytes(&self) -> usize {
        self.inputs / self.group.min(GROUP_MAX) * ROWS * 2
    }

    /// Bytes of a tile's weights as a byte each, where they are not.
    fn opened_bytes(&self) -> usize {
        if self.bits == 4 { self.inputs * ROWS } else { 0 }
    }

    /// Whether inputs are kept small enough for pairs; those of groups that are fitted keep all steps.
    fn pairs(&self) -> bool {
        self.bits == 4 && self.group > FITTED
    }

    /// Whether its weights are multiplied in pairs.
    fn paired(&self, isa: Isa) -> bool {
        self.pairs() && isa.adds_beside_products()
    }

    /// The layout of so many rows.
    fn layout(&self, isa: Isa, rows: usize) -> Layout {
        let limit = if self.pairs() { PAIRED_LIMIT } else { i8::MAX };
        let columns_max = if tiled(isa, rows) { COLUMNS } else { isa.columns() };
        Layout { inputs: self.inputs, group: self.group, columns_max, limit }
    }
}

/// Bytes of a matrix that one row reads, but for outputs that fill up its last tile.
pub(super) fn packed_bytes(matrix: &Affine<'_>) -> usize {
    matrix.outputs * (Format::of(matrix).tile_bytes() / ROWS)
}

/// Bytes that it takes beside those, for rows that meet pairs of its weights.
pub(super) fn pairs_bytes(matrix: &Affine<'_>, isa: Isa) -> usize {
    let format = Format::of(matrix);
    if format.paired(isa) { matrix.outputs * (format.pairs_bytes() / ROWS) } else { 0 }
}

/// A packed matrix; outputs are padded to whole tiles with zeros.
pub(super) struct Tiles {
    memory: Memory,
    /// What the pairs of weights of each tile give, where pairs are multiplied.
    pairs: Option<Memory>,
    format: Format,
    outputs: usize,
    /// Tiles of the first half of the outputs and of the second take turns: one gates the other.
    gated: bool,
}

/// One kernel call: a tile times a block of columns.
#[derive(Clone, Copy)]
struct Call {
    tile: *const u8,
    groups: usize,
    /// 64-byte lines per activation group.
    lines: usize,
    /// Activation groups per weight group.
    halves: usize,
    narrow: bool,
    /// What the tile's pairs of weights give, for paired columns.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pairs: *const u8,
    columns: Columns,
    /// That of column c and output r is `c * stride + r`.
    out: *mut f32,
    stride: usize,
    /// Prefetch distances in bytes, into the second cache and into the first.
    ahead: [usize; 2],
}

impl Tiles {
    /// Packs checked parts of equal format, outputs after outputs; `gated` ones for `Finish::Gate`.
    pub(super) fn pack(parts: &[Affine<'_>], outputs: usize, gated: bool, pool: &Pool) -> Result<Tiles, ShapeError> {
        let format = Format::of(&parts[0]);
        let tiles = outputs.div_ceil(ROWS);
        let mut memory = Memory::zeroed(tiles * format.tile_bytes())?;
        let mut pairs = format.paired(pool.isa()).then(|| Memory::zeroed(tiles * format.pairs_bytes())).transpose()?;
        let base = Shared::new(memory.bytes_mut());
        let given = pairs.as_mut().map(|pairs| Shared::new(pairs.bytes_mut()));
        // SAFETY: tiles lie side by side in both memories, and each is written by one thread.
        #[allow(unsafe_code)]
        let tile = |base: Shared<u8>, t: usize, bytes: usize| unsafe {
            std::slice::from_raw_parts_mut(base.get().add(t * bytes), bytes)
        };
        pool.run(&|thread| {
            for t in share(tiles, thread, pool.threads()) {
                let out = tile(base, t, format.tile_bytes());
                for lane in 0..ROWS.min(outputs - t * ROWS) {
                    let output = if gated { t % 2 * (outputs / 2) + t / 2 * ROWS } else { t * ROWS } + lane;
                    let (part, row) = super::find(parts, |part| part.outputs, output);
                    pack::lane(pool.isa(), &format, part, row, lane, out);
                }
                if let Some(given) = given {
                    weight_pairs(&format, out, tile(given, t, format.pairs_bytes()));
                }
            }
        });
        Ok(Tiles { memory, pairs, format, outputs, gated })
    }

    pub(super) fn bytes(&self) -> usize {
        self.memory.len() + self.pairs.as_ref().map_or(0, Memory::len)
    }

    /// How so many rows in so many blocks lie.
    fn form(&self, isa: Isa, rows: usize, blocks: usize) -> Form {
        if tiled(isa, rows) {
            Form::Rows
        } else if self.pairs.is_some() && isa.adds_beside_products() && rows / blocks >= PAIRED {
            Form::Paired
        } else {
            Form::Beside
        }
    }

    /// Tile `t`, and what its pairs of weights give, or null.
    fn tile(&self, t: usize) -> (*const u8, *const u8) {
        let at = |memory: &Memory, bytes| memory.bytes()[t * bytes..].as_ptr();
        let pairs = self.pairs.as_ref().map_or(std::ptr::null(), |pairs| at(pairs, self.format.pairs_bytes()));
        (at(&self.memory, self.format.tile_bytes()), pairs)
    }

    pub(super) fn row(&self, index: usize, out: &mut [f32]) {
        debug_assert!(!self.gated, "rows of a gate lie elsewhere");
        let tile = &self.memory.bytes()[index / ROWS * self.format.tile_bytes()..][..self.format.tile_bytes()];
        let lane = index % ROWS;
        let groups = tile.chunks_exact(self.format.group_bytes());
        for (bytes, out) in groups.zip(out.chunks_exact_mut(self.format.group)) {
            let (weights, pairs) = bytes.split_at(self.format.weight_bytes());
            let (scale, bias) = self.pair(pairs, lane);
            for (i, out) in out.iter_mut().enumerate() {
                let q = if self.format.bits == 4 {
                    weights[i / 8 * 64 + lane * 4 + i % 4] >> (i % 8 / 4 * 4) & 15
                } else {
                    weights[i / 4 * 64 + lane * 4 + i % 4]
                };
                *out = scale * f32::from(q) + bias;
            }
        }
    }

    /// Scale and bias of one lane, from a group's last bytes.
    fn pair(&self, pairs: &[u8], lane: usize) -> (f32, f32) {
        if self.format.narrow {
            let read = |i: usize| from_bf16(u16::from_le_bytes([pairs[2 * i], pairs[2 * i + 1]]));
            (read(lane), read(ROWS + lane))
        } else {
            (Dtype::F32.read(pairs, lane), Dtype::F32.read(pairs, ROWS + lane))
        }
    }

    /// `y` and what becomes of it; `Finish::Gate` is for gated tiles, and they for nothing else.
    pub(super) fn forward(
        &self,
        pool: &Pool,
        scratch: &mut Scratch,
        x: &[f32],
        rows: usize,
        (y, finish): (&mut [f32], Finish),
    ) {
        assert_eq!(self.gated, matches!(finish, Finish::Gate(_)), "gates are for gated tiles");
        let layout = self.format.layout(pool.isa(), rows);
        let blocks = rows.div_ceil(layout.columns_max);
        let private = rows <= PRIVATE_ROWS;
        let bytes = layout.block_bytes();
        let sets = blocks * bytes * if private { pool.threads() } else { 1 };
        let form = self.form(pool.isa(), rows, blocks);
        let room = if form == Form::Rows { TILES * self.format.opened_bytes() } else { 0 };
        let base = scratch.reserve(sets + pool.threads() * room);
        let product = Product { tiles: self, isa: pool.isa(), layout, rows, blocks, form, y: Shared::new(y), finish };
        if !private {
            // Whole blocks per thread: threads that interleave rows of one block share its cache lines, which cost
            // a third of a long prompt's time.
            pool.deal(blocks, &|_, index| {
                // SAFETY: each block has its own lines and is quantized by one thread.
                #[allow(unsafe_code)]
                unsafe {
                    product.quantize(x, index..index + 1, base.get());
                }
            });
        }
        // SAFETY: `reserve` was asked for a set per thread where sets are private.
        #[allow(unsafe_code)]
        let set = |thread: usize| unsafe { base.get().add(if private { thread * blocks * bytes } else { 0 }) };
        let prepare = |thread: usize| {
            if private {
                // SAFETY: a private set of blocks belongs to its thread.
                #[allow(unsafe_code)]
                unsafe {
                    product.quantize(x, 0..blocks, set(thread));
                }
            }
        };
        // SAFETY: as above, behind the sets.
        #[allow(unsafe_code)]
        let room = |thread: usize| unsafe { base.get().add(sets + thread * room) };
        let panels = product.panels();
        pool.deal_after(&prepare, panels * blocks.div_ceil(BLOCKS), &|thread, index| {
            // SAFETY: the set is quantized and only read from here on; every index has outputs of its own.
            #[allow(unsafe_code)]
            unsafe {
                product.multiply(index % panels, index / panels, set(thread), room(thread));
            }
        });
    }
}

/// Whether a tile unit multiplies so many rows.
fn tiled(isa: Isa, rows: usize) -> bool {
    isa == Isa::Avx512(Avx512::Amx) && rows >= TILED
}

/// A matrix product under way.
struct Product<'a> {
    tiles: &'a Tiles,
    isa: Isa,
    layout: Layout,
    rows: usize,
    blocks: usize,
    form: Form,
    y: Shared<f32>,
    finish: Finish,
}

impl Product<'_> {
    /// Block `b` of the set at `set`, and its first row.
    #[allow(unsafe_code)]
    unsafe fn block(&self, b: usize, set: *mut u8) -> (Columns, usize) {
        let part = share(self.rows, b, self.blocks);
        // SAFETY: the set has `blocks` blocks of `block_bytes` each.
        (unsafe { self.layout.block(set.add(b * self.layout.block_bytes()), part.len(), self.form) }, part.start)
    }

    /// Quantizes blocks `range` of `x` into the set at `set`.
    ///
    /// # Safety
    /// The set has room for every block, and no other thread touches those in `range`.
    #[allow(unsafe_code)]
    unsafe fn quantize(&self, x: &[f32], range: std::ops::Range<usize>, set: *mut u8) {
        for b in range {
            // SAFETY: passed on to the caller.
            unsafe {
                let (columns, first) = self.block(b, set);
                let x = &x[first * self.layout.inputs..(first + columns.count) * self.layout.inputs];
                self.layout.quantize(self.isa, x, columns);
            }
        }
    }

    /// Runs of `TILES` tiles.
    fn panels(&self) -> usize {
        self.tiles.outputs.div_ceil(ROWS).div_ceil(TILES)
    }

    /// Multiplies the tiles of `panel` with the blocks of `chunk`.
    ///
    /// # Safety
    /// The set is quantized, no other thread touches the outputs of those, and the room is this thread's.
    #[allow(unsafe_code)]
    unsafe fn multiply(&self, panel: usize, chunk: usize, set: *mut u8, room: *mut u8) {
        let tiles = panel * TILES..self.tiles.outputs.div_ceil(ROWS).min((panel + 1) * TILES);
        let blocks = chunk * BLOCKS..self.blocks.min((chunk + 1) * BLOCKS);
        #[cfg(target_arch = "x86_64")]
        if self.form == Form::Rows {
            // SAFETY: passed on to the caller.
            return unsafe { self.tiled(tiles, blocks, set, room) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = room;
        for b in blocks.clone() {
            // SAFETY: passed on to the caller.
            let (columns, first) = unsafe { self.block(b, set) };
            let again = b > blocks.start;
            for t in tiles.clone().step_by(2) {
                // SAFETY: passed on to the caller.
                unsafe { self.tiles(t, columns, first, again) };
            }
        }
    }

    /// Multiplies tile `t`, and the next if there is one, with a block of columns, whose first row is `first`.
    #[allow(unsafe_code)]
    unsafe fn tiles(&self, t: usize, columns: Columns, first: usize, again: bool) {
        let format = &self.tiles.format;
        let mut sums = MaybeUninit::<[[f32; WIDE]; COLUMNS]>::uninit();
        self.expect(t, columns.count, first);
        let call = self.call(t, columns, sums.as_mut_ptr().cast(), if again { AGAIN } else { AHEAD });
        let two_tiles = self.tiles.outputs - t * ROWS > ROWS;
        // SAFETY: the tiles lie inside `memory`; the block and the outputs are those of the caller. The kernels write the
        // sums of every column, of one tile or of two, before they are read.
        unsafe {
            let share = again && self.isa.multiplies_beside_loads() && format.bits == 4 && columns.count >= SHARING;
            if share && two_tiles {
                two(&call);
            } else {
                run(self.isa, format.bits, &call);
                if two_tiles {
                    let (tile, pairs) = self.tiles.tile(t + 1);
                    run(self.isa, format.bits, &Call { tile, pairs, out: call.out.add(ROWS), ..call });
                }
            }
            let sums = std::slice::from_raw_parts(sums.as_ptr().cast(), columns.count);
            self.end(t, sums, first);
        }
    }

    /// The call of tile `t`, whose sums go to `out`.
    fn call(&self, t: usize, columns: Columns, out: *mut f32, ahead: [usize; 2]) -> Call {
        let (format, halves) = (&self.tiles.format, self.layout.halves());
        let ((tile, pairs), lines) = (self.tiles.tile(t), format.weight_bytes() / 64 / halves);
        let (groups, narrow, stride) = (format.groups(), format.narrow, WIDE);
        Call { tile, groups, lines, halves, narrow, pairs, columns, out, stride, ahead }
    }

    /// Where the outputs of tile `t` and the next begin in row `first`, and the width of a row.
    fn place(&self, t: usize, first: usize) -> (*mut f32, usize) {
        let (width, at) = match self.finish {
            Finish::Gate(_) => (self.tiles.outputs / 2, t / 2 * ROWS),
            Finish::Write | Finish::Add => (self.tiles.outputs, t * ROWS),
        };
        (self.y.get().wrapping_add(first * width + at), width)
    }

    /// Fetches where `end` will write: it is here by the time that the sums are.
    fn expect(&self, t: usize, count: usize, first: usize) {
        let (out, width) = self.place(t, first);
        (0..count).for_each(|c| fetch(out.wrapping_add(c * width), WIDE));
    }

    /// Ends the rows from `first` on, of which these are the sums of tile `t` and the next, if there is one.
    ///
    /// # Safety
    /// No other thread touches their outputs.
    #[allow(unsafe_code)]
    unsafe fn end(&self, t: usize, sums: &[[f32; WIDE]], first: usize) {
        let (out, width) = self.place(t, first);
        let lanes = (self.tiles.outputs - t * ROWS).min(WIDE);
        if lanes == WIDE {
            return finish(self.isa, self.finish, sums, out, width);
        }
        for (c, sums) in sums.iter().enumerate() {
            for (lane, sum) in sums[..lanes].iter().enumerate() {
                // SAFETY: one of these rows' outputs.
                unsafe {
                    let out = out.add(c * width + lane);
                    *out = if self.finish == Finish::Add { *out + sum } else { *sum };
                }
            }
        }
    }
}

/// Runs `call` with the kernel of `isa`.
///
/// # Safety
/// The pointers are valid for what `Call` states, nobody else writes them, and this processor runs `isa`.
#[allow(unsafe_code)]
unsafe fn run(isa: Isa, bits: usize, call: &Call) {
    // SAFETY: passed on to the caller.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(kind) => avx512::avx512(kind, bits, call),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(kind) => avx2::avx2(kind, bits, call),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::neon(bits, call),
            _ => scalar::scalar(bits, call),
        }
    }
}

/// Runs `call` for its tile of 4-bit weights and the one behind it, for an instruction set that multiplies faster than it loads.
///
/// # Safety
/// As for `run` of either tile, with at least `SHARING` columns.
#[allow(unsafe_code)]
unsafe fn two(call: &Call) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: passed on to the caller; it is AVX-512 with VNNI, and a pool carries only what runs here.
    unsafe {
        avx512::two(call);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = call;
}

/// Writes what the pairs of weights of a tile give, for an instruction set that multiplies pairs.
fn weight_pairs(format: &Format, tile: &[u8], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it is AVX-512 with VNNI, and a pool carries only what runs here.
    #[allow(unsafe_code)]
    unsafe {
        avx512::weight_pairs(format, tile, out);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (format, tile, out);
}
