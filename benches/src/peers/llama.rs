//! llama.cpp on the same work: its own programs, with their own figures, on a model file of the same shape.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine::random::gguf::Form;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Line, ROOM, STEPS, Work, gguf};
use crate::shape::threads;

/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// The peer: its programs, and a model file for each width asked for so far.
pub struct Llama {
    programs: PathBuf,
    folder: TempDir,
    files: RefCell<BTreeMap<String, PathBuf>>,
}

impl Llama {
    /// Finds the programs where `peers/run.sh` says.
    pub fn new() -> Self {
        let programs = std::env::var_os("IMPETUS_PEER").expect("benches/peers/run.sh names the peer's programs").into();
        Self { programs, folder: tempfile::tempdir().unwrap(), files: RefCell::default() }
    }

    /// Measures one row.
    pub fn measure(&self, line: &Line) -> f64 {
        let file = || self.decoder(line.bits);
        match line.work {
            Work::Embed { tokens } => self.embed(tokens),
            Work::Prefill { tokens } => self.bench(&file(), &["-p", &tokens.to_string(), "-n", "0"]),
            Work::Decode { context } => {
                self.bench(&file(), &["-p", "0", "-n", &STEPS.to_string(), "-d", &context.to_string()])
            }
            Work::Streams { count } => self.streams(&file(), count),
            Work::Ready => self.serve(line.bits, &["-c", ROOM]).2,
            Work::Memory => f64::from(resident(self.serve(line.bits, &["-c", ROOM]).0.pid())) / 1e3,
        }
    }

    /// The best of the forms that it has: whoever embeds with it may choose.
    fn embed(&self, tokens: u32) -> f64 {
        let of = |form: Form| {
            let file = self.file(&format!("{form:?}-encoder"), |path| gguf::write_encoder(path, form));
            self.bench(&file, &["-embd", "1", "-p", &tokens.to_string(), "-n", "0"])
        };
        [Form::F16, Form::Q8_0, Form::Q4_0].map(of).into_iter().fold(0.0, f64::max)
    }

    fn decoder(&self, bits: u32) -> PathBuf {
        self.file(&bits.to_string(), |path| gguf::write_decoder(path, bits))
    }

    /// How likely each token of the vocabulary is after each of `tokens`, as a logarithm.
    pub fn likely(&self, file: &Path, tokens: &[u32], vocabulary: u32) -> Vec<Vec<f64>> {
        let (_server, port, _) = self.start(file, &["-c", "512"]);
        let after = |end: usize| {
            // It tells nothing beside a token that is no text, so it draws a letter, which changes nothing of what it tells.
            let drawn = json!([[u32::from(b'a'), 1_000]]);
            let body = json!({ "prompt": tokens[..end], "n_predict": 1, "n_probs": vocabulary, "logit_bias": drawn });
            let answer: Value = serde_json::from_str(&ask(port, "/completion", &body.to_string())).unwrap();
            let mut all = vec![f64::NAN; vocabulary as usize];
            let told = answer["completion_probabilities"][0]["top_logprobs"].as_array();
            for one in told.unwrap_or_else(|| panic!("no probabilities in {answer}")) {
                all[one["id"].as_u64().unwrap() as usize] = one["logprob"].as_f64().unwrap();
            }
            assert!(all.iter().all(|one| one.is_finite()), "the peer tells of every token");
            all
        };
        (1..=tokens.len()).map(after).collect()
    }

    fn file(&self, name: &str, write: impl FnOnce(&Path) -> io::Result<()>) -> PathBuf {
        let make = || {
            let path = self.folder.path().join(format!("{name}.gguf"));
            write(&path).unwrap();
            path
        };
        self.files.borrow_mut().entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// One test of `llama-bench`, after its own warm-up: tokens per second.
    fn bench(&self, file: &Path, test: &[&str]) -> f64 {
        let output = self.run("llama-bench", file, &[&["-r", "1", "-o", "json"], test].concat());
        let tests: Value = serde_json::from_str(&output).unwrap();
        tests[0]["avg_ts"].as_f64().unwrap()
    }

    /// One line of `llama-batched-bench`: tokens per second of all streams.
    fn streams(&self, file: &Path, count: u32) -> f64 {
        let (count, steps) = (count.to_string(), STEPS.to_string());
        let test = ["-c", "4096", "-npp", "128", "-ntg", &steps, "-npl", &count, "--output-format", "jsonl"];
        let output = self.run("llama-batched-bench", file, &test);
        let line = output.lines().find(|line| line.starts_with('{')).unwrap();
        serde_json::from_str::<Value>(line).unwrap()["speed_tg"].as_f64().unwrap()
    }

    fn run(&self, program: &str, file: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new(self.programs.join(program));
        command.arg("-m").arg(file).args(["-t", &threads().to_string()]).args(arguments).stderr(Stdio::null());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?} failed");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a server on a file of this width; returns it with its port and the seconds it took to be ready.
    pub fn serve(&self, bits: u32, more: &[&str]) -> (Server, u16, f64) {
        self.start(&self.decoder(bits), more)
    }

    fn start(&self, file: &Path, more: &[&str]) -> (Server, u16, f64) {
        // Free a moment ago is free enough.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let start = Instant::now();
        let mut command = Command::new(self.programs.join("llama-server"));
        command.arg("-m").arg(file).args(["-t", &threads().to_string(), "--host", "127.0.0.1"]);
        command.args(["--port", &port.to_string()]).args(more).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server(command.spawn().unwrap());
        while !healthy(port) {
            assert!(start.elapsed() < READY, "llama-server is not ready");
            std::thread::park_timeout(Duration::from_millis(2));
        }
        (server, port, start.elapsed().as_secs_f64())
    }
}

/// A server, killed when dropped.
pub struct Server(Child);

impl Server {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended is as good as killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn healthy(port: u16) -> bool {
    exchange(port, "GET /health HTTP/1.1\r\n", "").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// The body of what is answered to a body.
fn ask(port: u16, path: &str, body: &str) -> String {
    let head = format!("POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let answer = exchange(port, &head, body).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    body.to_owned()
}

/// One request over a connection of its own; returns all that comes back.
fn exchange(port: u16, head: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(format!("{head}Host: localhost\r\nConnection: close\r\n\r\n{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Kilobytes that a process holds.
pub fn resident(pid: u32) -> u32 {
    let output = Command::new("ps").args(["-o", "rss=", "-p", &pid.to_string()]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}
