//! What becomes of work whose client does not wait until it has begun. No socket is opened: `tests` has those.

use std::future::pending;
use std::time::Duration;

use super::*;
use crate::config::Config;
use crate::paths::Paths;
use crate::shutdown::Shutdown;

#[tokio::test]
async fn work_is_cancelled_where_its_client_takes_the_call_back_that_begins_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::testing(folder.path());
    let (daemon, _supervision) =
        crate::assemble(config, Paths::make(folder.path()).unwrap(), Shutdown::default()).unwrap();
    let session = Session::open(daemon);
    let mut opened = None;
    let mut beginning = Box::pin(session.begin(None, |transcript| {
        opened = Some(transcript);
        pending()
    }));
    assert!(futures::poll!(&mut beginning).is_pending());
    drop(beginning);
    let transcript = opened.expect("begun");
    tokio::time::timeout(Duration::from_secs(30), transcript.cancelled().cancelled()).await.unwrap();
    assert!(session.lock().is_empty(), "nobody is left to read it");
}
