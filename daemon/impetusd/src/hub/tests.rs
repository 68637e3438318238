//! Pulls from a small hub on this machine, which can break off, lie and refuse.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::config::Config;
use crate::transcript::Transcripts;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const NEWER: &str = "89abcdef0123456789abcdef0123456789abcdef";
/// Requests for files, after which the hub has no more: a pull without end would never end a test.
const FILES_SERVED_MAX: usize = 64;

/// A hub with one repository, `org/model`; the scripted worker can serve it. Its revision `v1` stays at one commit.
pub struct FakeHub {
    pub address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Whether `main` is a newer commit than `v1`.
    advanced: AtomicBool,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Digest announced for the weights, if it is not the true one.
    lie: Mutex<Option<String>>,
    /// Bytes after which a file response breaks off; 0 is never.
    break_off: AtomicUsize,
    /// What every request for the weights is answered with, whatever its range, if it is not the weights.
    instead: Mutex<Option<Vec<u8>>>,
    /// The `Range` headers and tokens that came.
    seen: Mutex<Vec<String>>,
}

impl FakeHub {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        let weights: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let files = [
            ("config.json", b"{}".to_vec()),
            ("script.json", b"{\"megabytes\": 7}".to_vec()),
            ("model.safetensors", weights),
            ("pytorch_model.bin", b"a pickle".to_vec()),
            ("original/model.safetensors", b"again".to_vec()),
            ("README.md", b"words".to_vec()),
        ];
        *state.files.lock().unwrap() = files.map(|(name, bytes)| (name.to_owned(), bytes)).into();
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || drop(state.serve(stream)));
            }
        });
        Self { address, state }
    }

    /// Makes `main` another commit, of the same files.
    pub fn advance(&self) {
        self.state.advanced.store(true, Ordering::Relaxed);
    }

    /// Makes the model one that cannot be served, whatever its weights are.
    pub fn make_strange(&self) {
        self.state.files.lock().unwrap().insert("script.json".to_owned(), b"{\"strange\": true}".to_vec());
    }

    pub fn ranges(&self) -> Vec<String> {
        self.state.seen.lock().unwrap().iter().filter(|seen| seen.starts_with("bytes=")).cloned().collect()
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let path = lines.next().unwrap()?.split(' ').nth(1).unwrap().to_owned();
        let mut start = 0;
        for line in lines.map_while(|line| line.ok().filter(|line| !line.is_empty())) {
            let (name, value) = line.split_once(": ").unwrap();
            match name.to_ascii_lowercase().as_str() {
                "range" => start = value[6..].trim_end_matches('-').parse().unwrap(),
                "authorization" => {}
                _ => continue,
            }
            self.seen.lock().unwrap().push(value.to_owned());
        }
        if let Some(revision) = path.strip_prefix("/api/models/org/model/revision/") {
            let newer = revision == "main?blobs=true" && self.advanced.load(Ordering::Relaxed);
            let body = self.listing(if newer { NEWER } else { COMMIT });
            return write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
        let name = path.strip_prefix("/org/model/resolve/").and_then(|path| path.split_once('/'));
        let name = name.map_or("", |(_commit, name)| name);
        let files = self.files.lock().unwrap();
        let status = if path.contains("/gated") { "401 Unauthorized" } else { "404 Not Found" };
        let over = self.seen.lock().unwrap().len() > FILES_SERVED_MAX;
        let Some(bytes) = files.get(name).filter(|_| !over) else {
            return write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        if let Some(instead) = self.instead.lock().unwrap().as_ref().filter(|_| name == "model.safetensors") {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", instead.len())?;
            return stream.write_all(instead);
        }
        let rest = &bytes[start..];
        write!(stream, "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", rest.len())?;
        match self.break_off.load(Ordering::Relaxed) {
            0 => stream.write_all(rest),
            limit => stream.write_all(&rest[..limit.min(rest.len())]),
        }
    }

    fn listing(&self, commit: &str) -> String {
        let files = self.files.lock().unwrap();
        let siblings: Vec<_> = files
            .iter()
            .map(|(name, bytes)| {
                let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                let digest = self.lie.lock().unwrap().clone().unwrap_or(digest);
                match name.ends_with(".safetensors") {
                    true => serde_json::json!({ "rfilename": name, "lfs": { "sha256": digest, "size": bytes.len() } }),
                    false => serde_json::json!({ "rfilename": name, "size": bytes.len(), "blobId": &blob_id(bytes) }),
                }
            })
            .collect();
        serde_json::json!({ "sha": commit, "siblings": siblings }).to_string()
    }
}

/// Git's own digest.
fn blob_id(bytes: &[u8]) -> String {
    let digest = Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hub(endpoint: &str, cache: &Path) -> Hub {
    let mut config = Config::testing(cache).hub;
    config.endpoint = endpoint.to_owned();
    config.cache = cache.join("hub").to_str().unwrap().to_owned();
    config.retries = 1;
    config.request = Duration::from_secs(5);
    Hub::new(&config, cache.join("fetched"))
}

fn fetch(hub: &Hub, repo: &str) -> (Result<Fetched>, Arc<Transcript>) {
    let transcript = Transcripts::new(&Config::testing(Path::new("/nowhere")).transcripts).open();
    let wish = Wish { repo: repo.to_owned(), revision: "main".to_owned() };
    (hub.fetch(&wish, &transcript, |_| Ok(())), transcript)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_pull_brings_only_what_a_model_needs_into_the_shared_layout() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeHub::start();
    let pooling = b"{\"pooling_mode_cls_token\": true}";
    for (name, bytes) in [
        ("LICENSE", &b"do good"[..]),
        ("1_Pooling/config.json", pooling),
        ("1_LogitScore/config.json", b"{}"),
        ("2_Dense/config.json", b"{}"),
        ("2_Dense/model.safetensors", b"a matrix"),
        ("2_Dense/pytorch_model.bin", b"a program"),
        ("onnx/model.safetensors", b"the same again"),
        ("additional_chat_templates/tool_use.jinja", b"tools"),
        ("additional_chat_templates/rag.jinja", b"documents"),
        ("onnx/config.json", b"{}"),
        ("../1_Pooling/config.json", b"{}"),
    ] {
        fake.state.files.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
    }
    let hub = hub(&fake.address, folder.path());
    let fetched = fetch(&hub, "org/model").0.unwrap();
    assert_eq!(fetched.path, folder.path().join("hub/models--org--model/snapshots").join(COMMIT));
    let needed = [
        "1_LogitScore",
        "1_Pooling",
        "2_Dense",
        "LICENSE",
        "additional_chat_templates",
        "config.json",
        "model.safetensors",
        "script.json",
    ];
    assert_eq!(names(&fetched.path), needed);
    assert_eq!(names(&fetched.path.join("additional_chat_templates")), ["tool_use.jinja"]);
    assert_eq!(std::fs::read(fetched.path.join("1_Pooling/config.json")).unwrap(), pooling, "how an embedder pools");
    assert_eq!(names(&fetched.path.join("2_Dense")), ["config.json", "model.safetensors"]);
    assert_eq!(std::fs::read(fetched.path.join("2_Dense/model.safetensors")).unwrap(), b"a matrix");
    let mut weights = Vec::new();
    std::fs::File::open(fetched.path.join("model.safetensors")).unwrap().read_to_end(&mut weights).unwrap();
    assert_eq!(weights, fake.state.files.lock().unwrap()["model.safetensors"]);
    let reference = folder.path().join("hub/models--org--model/refs/main");
    assert_eq!(std::fs::read_to_string(reference).unwrap(), COMMIT);
    // What is there is not fetched again.
    let before = fake.ranges().len();
    assert_eq!(fetch(&hub, "org/model").0.unwrap(), fetched);
    assert_eq!(fake.ranges().len(), before);
    hub.delete("org/model", &[]).unwrap();
    assert!(!folder.path().join("hub/models--org--model").exists());
}

#[test]
fn a_repository_with_nothing_but_the_matrices_after_pooling_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeHub::start();
    let mut files = fake.state.files.lock().unwrap();
    let weights = files.remove("model.safetensors").unwrap();
    files.insert("2_Dense/model.safetensors".to_owned(), weights);
    drop(files);
    let refused = fetch(&hub(&fake.address, folder.path()), "org/model").0.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unsupported);
}

#[test]
fn what_other_tools_of_the_hub_fetched_is_not_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeHub::start();
    let fetched = fetch(&hub(&fake.address, folder.path()), "org/model").0.unwrap();
    // Another Impetus, to which all that is there is somebody else's.
    let mut stranger = Config::testing(folder.path()).hub;
    (stranger.endpoint, stranger.cache) =
        (fake.address.clone(), folder.path().join("hub").to_str().unwrap().to_owned());
    let stranger = Hub::new(&stranger, folder.path().join("elsewhere"));
    assert_eq!(fetch(&stranger, "org/model").0.unwrap(), fetched);
    stranger.delete("org/model", &[]).unwrap();
    assert_eq!(names(&fetched.path).len(), 3, "it was whole before");

    let repo = folder.path().join("hub/models--org--model");
    let others = repo.join("snapshots").join(NEWER);
    std::fs::create_dir(&others).unwrap();
    std::fs::write(others.join("model.gguf"), "another form").unwrap();
    let config = blob_id(b"{}");
    std::os::unix::fs::symlink(format!("../../blobs/{config}"), others.join("config.json")).unwrap();
    hub(&fake.address, folder.path()).delete("org/model", &[]).unwrap();
    assert!(!fetched.path.exists());
    assert_eq!(names(&others), ["config.json", "model.gguf"]);
    assert_eq!(std::fs::read_to_string(others.join("config.json")).unwrap(), "{}", "its bytes are shared");
    assert_eq!(names(&repo.join("blobs")), [config]);
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeHub::start();
    fake.state.break_off.store(150_000, Ordering::Relaxed);
    let fetched = fetch(&hub(&fake.address, folder.path()), "org/model").0.unwrap();
    assert_eq!(std::fs::metadata(fetched.path.join("model.safetensors")).unwrap().len(), 400_000);
    assert!(fake.ranges().contains(&"bytes=150000-".to_owned()), "{:?}", fake.ranges());
}

#[test]
fn a_mirror_that_answers_with_another_file_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    for (instead, words) in [(vec![7; 100], "sent 100 bytes long"), (vec![7; 400_001], "more than the 400000 bytes")] {
        let fake = FakeHub::start();
        *fake.state.instead.lock().unwrap() = Some(instead);
        let error = fetch(&hub(&fake.address, folder.path()), "org/model").0.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error:?}");
        assert!(error.message.contains(words) && error.message.contains("model.safetensors"), "{}", error.message);
        // What another program left there is no reason to fail, however long it is.
        let digest: String = Sha256::digest(&fake.state.files.lock().unwrap()["model.safetensors"])
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let part = folder.path().join("hub/models--org--model/blobs").join(format!("{digest}.incomplete"));
        std::fs::write(part, vec![7; 400_002]).unwrap();
    }
    assert!(fetch(&hub(&FakeHub::start().address, folder.path()), "org/model").0.is_ok());
}

#[test]
fn damaged_bytes_are_refused_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeHub::start();
    *fake.state.lie.lock().unwrap() = Some("ab".repeat(32));
    let error = fetch(&hub(&fake.address, folder.path()), "org/model").0.unwrap_err();
    assert!(error.message.contains("SHA-256") && error.message.contains("model.safetensors"), "{}", error.message);
    let blobs = names(&folder.path().join("hub/models--org--model/blobs"));
    assert_eq!(blobs.len(), 2, "only the small files stay");
    assert!(blobs.contains(&blob_id(b"{}")) && blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a");
}

#[test]
fn a_small_file_of_the_right_length_and_the_wrong_bytes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeHub::start();
    let blobs = folder.path().join("hub/models--org--model/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(format!("{}.incomplete", blob_id(b"{}"))), "[]").unwrap();
    let error = fetch(&hub(&fake.address, folder.path()), "org/model").0.unwrap_err();
    assert!(error.message.contains("config.json") && error.message.contains("git"), "{}", error.message);
    assert!(fetch(&hub(&fake.address, folder.path()), "org/model").0.is_ok(), "it was deleted");
}

#[test]
fn without_a_network_the_error_says_so_and_what_was_fetched_serves() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeHub::start();
    let fetched = fetch(&hub(&fake.address, folder.path()), "org/model").0.unwrap();
    // Port 1 answers nobody.
    let offline = hub("http://127.0.0.1:1", folder.path());
    assert_eq!(fetch(&offline, "org/model").0.unwrap(), fetched);
    let error = fetch(&offline, "org/other").0.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.message.contains("cannot be reached") && error.hint.unwrap().contains("network"));
}

#[test]
fn missing_and_private_repositories_are_told_apart_from_a_bad_line() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeHub::start();
    let hub = hub(&fake.address, folder.path());
    assert_eq!(fetch(&hub, "org/missing").0.unwrap_err().kind, ErrorKind::NotFound);
    let error = fetch(&hub, "org/gated").0.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);
    assert!(error.hint.unwrap().contains("HF_TOKEN"));
    fake.state.files.lock().unwrap().remove("model.safetensors");
    let error = fetch(&hub, "org/model").0.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
}

#[test]
fn a_model_that_the_disk_has_no_room_for_is_refused_with_the_figures_before_anything_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeHub::start();
    let full = Hub { room: |_| Some(ROOM_LEFT + 399_999), ..hub(&fake.address, folder.path()) };
    let error = fetch(&full, "org/model").0.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoMemory);
    assert!(error.message.contains("needs 0.0 GB more") && error.message.contains("room for 0.5 GB"), "{error:?}");
    assert_eq!(fake.ranges(), [""; 0]);
    fetch(&hub(&fake.address, folder.path()), "org/model").0.unwrap();
    assert!(fetch(&full, "org/model").0.is_ok(), "nothing is missing");
}

#[test]
fn a_cancelled_pull_stops_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeHub::start();
    let hub = hub(&fake.address, folder.path());
    let transcript = Transcripts::new(&Config::testing(Path::new("/nowhere")).transcripts).open();
    transcript.cancelled().cancel();
    let wish = Wish { repo: "org/model".to_owned(), revision: "main".to_owned() };
    assert_eq!(hub.fetch(&wish, &transcript, |_| Ok(())).unwrap_err().kind, ErrorKind::Cancelled);
    assert!(fetch(&hub, "org/model").0.is_ok());
}
