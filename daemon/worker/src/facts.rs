//! What the worker knows of its model and of itself, in the protocol's words.
//!
//! The engine has its own words for facts and errors because it knows no protocol; here they meet. `inspect` and the
//! loader call this, and the pulse asks it for the memory that the process holds.

use std::path::Path;

use engine::LoadError;
use engine::text::{GenerationDefaults, Template, license};
use protocol::generation::Sampling;
use protocol::model::{Capabilities, ModelFacts, ModelTexts};
use protocol::{Error, ErrorKind};

/// Tells what a model folder holds, without loading it.
pub fn inspect(dir: &Path) -> Result<ModelFacts, Error> {
    engine::inspect(dir).map(|facts| model_facts(&facts)).map_err(|error| load_error(&error))
}

/// Tells the same without reading the tokenizer.
pub fn facts(dir: &Path) -> Result<ModelFacts, Error> {
    engine::facts(dir).map(|facts| model_facts(&facts)).map_err(|error| load_error(&error))
}

/// Refuses a folder that will not load whatever its weights are, which need not be there yet.
pub fn foresee(dir: &Path) -> Result<(), Error> {
    engine::foresee(dir).map_err(|error| load_error(&error))
}

/// Tells what a model folder holds for people to read.
pub fn texts(dir: &Path) -> Result<ModelTexts, Error> {
    // A folder that is gone is no model without texts.
    facts(dir)?;
    let read = || -> Result<ModelTexts, LoadError> {
        let drawn = GenerationDefaults::sampling(dir)?;
        let sampling = Sampling {
            temperature: drawn.temperature,
            top_p: drawn.top_p,
            top_k: drawn.top_k,
            min_p: drawn.min_p,
            typical_p: drawn.typical_p,
            repetition_penalty: drawn.repetition_penalty,
            ..Sampling::default()
        };
        let template = Template::open(dir)?.map(|template| template.source().to_owned());
        Ok(ModelTexts { template, license: license(dir)?, sampling })
    };
    read().map_err(|error| load_error(&error))
}

/// The engine's facts in the protocol's words.
fn model_facts(facts: &engine::Facts) -> ModelFacts {
    ModelFacts {
        architecture: facts.architecture.clone(),
        parameters: facts.parameters,
        context_length: facts.context_length,
        vocabulary: facts.vocabulary,
        weights: facts.weights.clone(),
        weights_bytes: facts.weights_bytes,
        memory_bytes: facts.memory_bytes,
        step_bytes: facts.step_bytes,
        kv_bytes_per_token: facts.kv_bytes_per_token,
        dimensions: facts.dimensions,
        capabilities: Capabilities {
            chat: facts.capabilities.chat,
            tools: facts.capabilities.tools,
            reasoning: facts.capabilities.reasoning,
            embed: facts.capabilities.embed,
            rerank: facts.capabilities.rerank,
        },
    }
}

/// Why a folder does not load, in the protocol's words.
pub fn load_error(error: &LoadError) -> Error {
    if let LoadError::Unwritable { source, .. } = error {
        let full = source.kind() == std::io::ErrorKind::StorageFull;
        let hint = if full { "make room on the disk" } else { "look at the folder's permissions" };
        return Error::new(ErrorKind::Internal, error.to_string()).hint(hint);
    }
    let kind = match error {
        LoadError::NoFolder(_) => ErrorKind::NotFound,
        LoadError::Unsupported { .. } => ErrorKind::Unsupported,
        _ => ErrorKind::ModelNotLoaded,
    };
    Error::new(kind, error.to_string())
}

/// Bytes of memory that this process holds; 0 where the system does not say.
#[cfg(target_os = "linux")]
pub fn resident_bytes() -> u64 {
    told_bytes("VmRSS:")
}

/// The same without the pages of mapped files.
#[cfg(target_os = "linux")]
pub fn own_bytes() -> u64 {
    told_bytes("RssAnon:")
}

#[cfg(target_os = "linux")]
fn told_bytes(which: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix(which)?.split_whitespace().next()?.parse().ok());
    kilobytes.map_or(0, |kilobytes: u64| kilobytes * 1024)
}

/// Bytes of memory that this process holds; 0 where the system does not say.
#[cfg(target_os = "macos")]
#[allow(unsafe_code)]
pub fn resident_bytes() -> u64 {
    let mut info = std::mem::MaybeUninit::<libc::proc_taskinfo>::zeroed();
    let size = size_of::<libc::proc_taskinfo>() as libc::c_int;
    // SAFETY: the buffer is writable for `size` bytes, and zeroed bytes are a valid `proc_taskinfo`.
    let (written, info) = unsafe {
        let pid = libc::getpid();
        let written = libc::proc_pidinfo(pid, libc::PROC_PIDTASKINFO, 0, info.as_mut_ptr().cast(), size);
        (written, info.assume_init())
    };
    if written == size { info.pti_resident_size } else { 0 }
}

/// The same without the pages of mapped files.
#[cfg(target_os = "macos")]
#[allow(unsafe_code)]
pub fn own_bytes() -> u64 {
    let mut info = std::mem::MaybeUninit::<libc::rusage_info_v0>::zeroed();
    // SAFETY: the buffer is what this flavour writes, and zeroed bytes are a valid `rusage_info_v0`.
    let (failed, info) = unsafe {
        let pid = libc::getpid();
        let failed = libc::proc_pid_rusage(pid, libc::RUSAGE_INFO_V0, info.as_mut_ptr().cast());
        (failed, info.assume_init())
    };
    if failed == 0 { info.ri_phys_footprint } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::kit::Folder;

    #[test]
    fn a_folder_tells_its_texts_and_one_that_is_gone_is_refused() {
        let folder = Folder::new("texts", |recipe| recipe);
        std::fs::write(folder.path().join("generation_config.json"), r#"{"temperature": 0.5, "top_k": 20}"#).unwrap();
        let told = texts(folder.path()).unwrap();
        assert_eq!((told.sampling.temperature, told.sampling.top_k, told.license), (Some(0.5), Some(20), None));
        assert!(texts(&folder.path().join("gone")).is_err());
    }

    #[test]
    fn a_folder_that_cannot_be_served_is_refused_before_its_weights_are_there() {
        let folder = Folder::new("foresee", |recipe| recipe);
        for entry in std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.extension().is_some_and(|ending| ending == "safetensors") {
                std::fs::remove_file(entry).unwrap();
            }
        }
        foresee(folder.path()).unwrap();
        assert!(inspect(folder.path()).is_err());
        let config = folder.path().join("config.json");
        let strange = std::fs::read_to_string(&config).unwrap().replace("\"model_type\"", "\"model_type_\"");
        std::fs::write(config, strange.replacen('{', "{\"model_type\": \"mamba\",", 1)).unwrap();
        assert!(foresee(folder.path()).unwrap_err().message.contains("mamba"));
    }
}
