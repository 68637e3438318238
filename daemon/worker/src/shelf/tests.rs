//! What the shelf gives back, what it does not, and what it costs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use scheduler::{BlockId, StateId};

use super::*;

const SALT: Salt = Salt(0);
const BLOCK_BYTES: usize = 1_000;
const SIZES: Sizes = Sizes { block: BLOCK_BYTES, state: 0 };
/// Of a model with recurrent states.
const WITH_STATES: Sizes = Sizes { block: BLOCK_BYTES, state: 5_000 };
const FILE_BYTES: u64 = 72 + BLOCK_BYTES as u64;

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("impetus-shelf-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn options(&self) -> pipe::Shelf {
        pipe::Shelf {
            dir: self.0.to_string_lossy().into_owned(),
            model: "model".to_string(),
            bytes_max: 1 << 30,
            day_bytes_max: 1 << 30,
            key: None,
        }
    }

    /// The files with this ending, of all models.
    fn files(&self, ending: &str) -> Vec<PathBuf> {
        let inside = |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        let models = inside(&self.0).into_iter().filter(|path| path.is_dir());
        let files = models.flat_map(|model| inside(&model)).flat_map(|dir| inside(&dir));
        files.filter(|path| path.extension().is_some_and(|it| it == ending)).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Opened {
    shelf: Shelf,
    inbox: Receiver<Message>,
}

fn open(options: &pipe::Shelf, model: u8) -> Opened {
    open_with(options, model, SIZES)
}

fn open_with(options: &pipe::Shelf, model: u8, sizes: Sizes) -> Opened {
    let (sender, inbox): (SyncSender<Message>, _) = sync_channel(16);
    Opened { shelf: Shelf::open(options, [model; 32], sizes, sender).unwrap(), inbox }
}

impl Opened {
    /// Puts every full block of a prompt away and waits until all is written.
    fn store(self, prompt: &[u32]) {
        self.store_with(prompt, &[]);
    }

    /// The same, with the states at the ends of some of its blocks, counted from 1.
    fn store_with(mut self, prompt: &[u32], states: &[usize]) {
        for blocks in 1..=prompt.len() / 32 {
            let tokens = prompt[..blocks * 32].to_vec();
            let kept = Kept { held: Held::Block(BlockId(0)), salt: SALT, tokens: tokens.clone() };
            self.shelf.store(&kept, || contents(&kept.tokens));
            if states.contains(&blocks) {
                let kept = Kept { held: Held::State(StateId(0)), salt: SALT, tokens };
                self.shelf.store(&kept, || state(&kept.tokens));
            }
        }
        self.shelf.close(std::iter::empty(), |_| Vec::new());
    }

    /// What comes back of a prompt's blocks after the first `cached`.
    fn fetch(&mut self, prompt: &[u32], cached: u32) -> Option<Vec<Vec<u8>>> {
        let known = Known { blocks: cached, usable: cached };
        self.load(prompt, known).map(|loaded| loaded.contents)
    }

    /// What is brought of a prompt of which so much is known.
    fn load(&mut self, prompt: &[u32], known: Known) -> Option<Loaded> {
        if !self.shelf.fetch(SequenceId(1), SALT, &prompt[..prompt.len() - 1], known) {
            return None;
        }
        let Message::Loaded(loaded) = self.inbox.recv_timeout(Duration::from_secs(20)).unwrap() else {
            panic!("the keeper sends blocks")
        };
        self.shelf.forget_missing(&loaded);
        Some(loaded)
    }
}

fn state(prefix: &[u32]) -> Vec<u8> {
    contents(prefix).repeat(WITH_STATES.state / BLOCK_BYTES)
}

fn contents(prefix: &[u32]) -> Vec<u8> {
    (0..BLOCK_BYTES).map(|at| (prefix[at % prefix.len()] as usize * 31 + prefix.len() + at) as u8).collect()
}

fn prompt(seed: u32, tokens: u32) -> Vec<u32> {
    (0..tokens).map(|at| at * 7 + seed * 100_003).collect()
}

#[test]
fn a_later_worker_finds_what_an_earlier_one_put_away() {
    let folder = Folder::new("later");
    let tokens = prompt(1, 128);
    open(&folder.options(), 1).store(&tokens);
    let mut later = open(&folder.options(), 1);
    let all: Vec<Vec<u8>> = (1..=3).map(|blocks| contents(&tokens[..blocks * 32])).collect();
    assert_eq!(later.fetch(&tokens, 0), Some(all.clone()), "the block of the last token is not wanted");
    assert_eq!(later.fetch(&prompt(1, 129), 2).unwrap().len(), 2, "but one that something follows is");
    assert_eq!(later.fetch(&tokens[..90], 1), Some(all[1..2].to_vec()));
    let mut other = tokens.clone();
    other[3] += 1;
    assert_eq!(later.fetch(&other, 0), None, "other tokens find nothing");
    assert_eq!(open(&folder.options(), 2).fetch(&tokens, 0), None, "another model finds nothing");
    assert!(!later.shelf.fetch(SequenceId(1), Salt(1), &tokens, Known::default()), "another salt finds nothing");
}

#[test]
fn a_damaged_file_is_removed_and_never_shown() {
    let folder = Folder::new("damaged");
    let tokens = prompt(1, 40);
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 4] =
        [|file| file[500] ^= 1, |file| file[20] ^= 1, |file| file.truncate(700), |file| file.extend([0])];
    for damage in damages {
        open(&folder.options(), 1).store(&tokens);
        let path = folder.files("kv").pop().unwrap();
        let mut file = fs::read(&path).unwrap();
        damage(&mut file);
        fs::write(&path, file).unwrap();
        let mut later = open(&folder.options(), 1);
        assert_eq!(later.fetch(&tokens, 0), Some(Vec::new()));
        assert!(!path.exists());
        assert_eq!(later.fetch(&tokens, 0), None, "it is not asked for again");
    }
}

#[test]
fn a_prefix_whose_files_are_all_damaged_is_whole_again_once_it_was_computed() {
    let folder = Folder::new("healed");
    let tokens = prompt(1, 5 * 32 + 1);
    open(&folder.options(), 1).store(&tokens);
    for path in folder.files("kv") {
        fs::write(path, b"nothing").unwrap();
    }
    let mut later = open(&folder.options(), 1);
    assert_eq!(later.fetch(&tokens, 0), Some(Vec::new()));
    later.store(&tokens);
    assert_eq!(open(&folder.options(), 1).fetch(&tokens, 0).unwrap().len(), 5);
}

#[test]
fn a_prefix_is_brought_up_to_the_last_state_that_is_there() {
    let folder = Folder::new("states");
    let tokens = prompt(1, 8 * 32 + 1);
    open_with(&folder.options(), 1, WITH_STATES).store_with(&tokens, &[2, 5]);
    let mut later = open_with(&folder.options(), 1, WITH_STATES);
    let mut brought = |blocks, usable| {
        let loaded = later.load(&tokens, Known { blocks, usable })?;
        assert_eq!(loaded.state_contents, Some(state(&tokens[..5 * 32])));
        Some((loaded.first, loaded.contents.len()))
    };
    assert_eq!(brought(0, 0), Some((0, 5)), "what stands after it could not be gone on from");
    assert_eq!(brought(3, 2), Some((3, 2)));
    assert_eq!(brought(5, 2), Some((5, 0)), "the blocks are in memory and their state is not");
    assert_eq!(brought(7, 0), Some((5, 0)), "the same where more blocks are");
    assert_eq!(brought(5, 5), None);
    assert_eq!(brought(8, 6), None);
    // A damaged state is removed, and the one before it is found next. It is the one that was asked for last.
    let states = folder.files("kv").into_iter().filter(|path| fs::metadata(path).unwrap().len() > 5_000);
    let last = states.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap();
    fs::write(&last, b"nothing").unwrap();
    assert_eq!(later.load(&tokens, Known::default()).unwrap().state_contents, None);
    let next = later.load(&tokens, Known::default()).unwrap();
    assert_eq!((next.contents.len(), next.state_contents), (2, Some(state(&tokens[..2 * 32]))));
    assert!(!last.exists());
}

#[test]
fn what_a_dead_writer_left_is_removed() {
    let folder = Folder::new("dead");
    open(&folder.options(), 1).store(&prompt(1, 32));
    let whole = folder.files("kv").pop().unwrap();
    fs::copy(&whole, whole.with_extension("part")).unwrap();
    drop(open(&folder.options(), 1));
    assert_eq!((folder.files("part").len(), folder.files("kv").len()), (0, 1));
}

#[test]
fn what_was_not_asked_for_longest_goes_first() {
    let folder = Folder::new("budget");
    let options = pipe::Shelf { bytes_max: 8 * FILE_BYTES, ..folder.options() };
    for seed in 0..3 {
        open(&options, 1).store(&prompt(seed, 64));
    }
    assert!(open(&options, 1).fetch(&prompt(0, 65), 0).is_some(), "asked for again");
    let other = pipe::Shelf { model: "other".to_string(), ..options.clone() };
    open(&other, 2).store(&prompt(9, 128));
    assert!(folder.files("kv").len() <= 8);
    assert_eq!(open(&options, 1).fetch(&prompt(0, 65), 0).unwrap().len(), 2);
    assert!(open(&options, 1).fetch(&prompt(1, 65), 0).is_none_or(|blocks| blocks.len() < 2));
    assert_eq!(open(&other, 2).fetch(&prompt(9, 129), 0).unwrap().len(), 4, "all models share the room");
}

#[test]
fn workers_that_write_at_the_same_time_share_one_budget() {
    let folder = Folder::new("shared-budget");
    let options = pipe::Shelf { bytes_max: 8 * FILE_BYTES, ..folder.options() };
    let (one, other) = (open(&options, 1), open(&options, 2));
    one.store(&prompt(1, 6 * 32));
    other.store(&prompt(2, 6 * 32));
    assert!(folder.files("kv").len() <= 8, "{} blocks are kept", folder.files("kv").len());
    assert_eq!(open(&options, 2).fetch(&prompt(2, 6 * 32 + 1), 0).unwrap().len(), 6, "the newest stay");
}

#[test]
fn writing_stops_when_the_days_share_is_written() {
    let folder = Folder::new("wear");
    let options = pipe::Shelf { day_bytes_max: 3 * FILE_BYTES, ..folder.options() };
    open(&options, 1).store(&prompt(1, 64));
    open(&options, 2).store(&prompt(2, 128));
    assert_eq!(folder.files("kv").len(), 3, "a restart does not begin a new day");
}

#[test]
fn files_of_a_shelf_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("mode");
    open(&folder.options(), 1).store(&prompt(1, 32));
    let file = folder.files("kv").pop().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn the_beginning_of_a_prefix_outlives_what_follows_it() {
    let folder = Folder::new("beginning");
    let options = pipe::Shelf { bytes_max: 8 * FILE_BYTES, ..folder.options() };
    let long = prompt(1, 8 * 32);
    open(&options, 1).store(&long);
    open(&options, 1).store(&prompt(2, 3 * 32));
    let left = open(&options, 1).fetch(&prompt(1, 8 * 32 + 1), 0).unwrap();
    assert!((3..=5).contains(&left.len()), "{} blocks are left", left.len());
    assert_eq!(left[0], contents(&long[..32]));
}

#[test]
fn sealed_files_tell_nothing_and_open_for_their_key_alone() {
    let folder = Folder::new("sealed");
    let with = |key: u8| pipe::Shelf { key: Some(pipe::ShelfKey([key; 32])), ..folder.options() };
    let tokens = prompt(1, 70);
    open(&with(7), 1).store(&tokens);
    let all = vec![contents(&tokens[..32]), contents(&tokens[..64])];
    for path in folder.files("kv") {
        let file = fs::read(path).unwrap();
        assert!(all.iter().all(|known| !file.windows(16).any(|part| part == &known[100..116])), "contents show");
    }
    assert_eq!(open(&with(7), 1).fetch(&tokens, 0), Some(all));
    assert_eq!(open(&with(8), 1).fetch(&tokens, 0), None, "another key finds nothing");
    assert_eq!(open(&folder.options(), 1).fetch(&tokens, 0), None, "and no key neither");
    for path in folder.files("kv") {
        let mut file = fs::read(&path).unwrap();
        *file.last_mut().unwrap() ^= 1;
        // Whoever changes a file can make its checksum right as well.
        let checksum: Digest = Sha256::digest(&file[72..]).into();
        file[40..72].copy_from_slice(&checksum);
        fs::write(path, file).unwrap();
    }
    assert_eq!(open(&with(7), 1).fetch(&tokens, 0), Some(Vec::new()), "what was changed is not shown");
}

#[test]
fn what_one_build_has_put_away_is_not_what_another_looks_for() {
    let folder = Folder::new("builds");
    fs::create_dir_all(&folder.0).unwrap();
    fs::write(folder.0.join("model.safetensors"), "weights").unwrap();
    let digest = |build| model_digest(build, &folder.0, None, BLOCK_BYTES).unwrap();
    assert_eq!(digest(["1.0.0", "abc"]), digest(["1.0.0", "abc"]));
    for other in [["1.0.1", "abc"], ["1.0.0", "def"], ["1.0.0a", "bc"]] {
        assert_ne!(digest(other), digest(["1.0.0", "abc"]), "{other:?}");
    }
}

#[test]
fn models_whose_files_differ_behind_what_is_looked_at_share_nothing() {
    let folder = Folder::new("twins");
    let digest = |name: &str, end: u8| {
        let dir = folder.0.join(name);
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("model.safetensors");
        fs::write(&path, [vec![0; 1 << 17], vec![end]].concat()).unwrap();
        // As images and reproducible archives set it.
        fs::File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        model_digest(["1.0.0", "abc"], &dir, None, BLOCK_BYTES).unwrap()
    };
    let one = digest("one", 1);
    assert_ne!(one, digest("two", 2));
    let same = model_digest(["1.0.0", "abc"], &folder.0.join("one"), None, BLOCK_BYTES).unwrap();
    assert_eq!(one, same);
}
