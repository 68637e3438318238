//! The kernels' thread pool: one job at a time, run by every thread at once, with the caller as thread 0.
//!
//! A thread that has not begun a job when the caller has done its own part is not waited for: the caller does that one's
//! part too. So a thread that lost its core, or is only waking, holds up what it has begun and nothing else. Between jobs the
//! threads spin for a bounded time (a forward pass runs hundreds of jobs, microseconds apart) and then park, so an idle engine
//! uses no processor. It never queues, and never holds more than one job.

#[cfg(test)]
mod tests;

use super::cpu::Isa;
use super::memory::share;
use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, Thread};

/// Polls before a waiting thread parks; about 40 microseconds. It does not yield: two threads that come to lie on one core
/// would take turns there for whole steps, as both always want to run, and another core would stay idle. One that was
/// parked wakes on a core that is free.
const SPINS: u32 = 4_000;

/// Polls before the caller looks whether a worker has begun at all.
const GRACE: u32 = 32;

type Job = *const (dyn Fn(usize) + Sync);

/// Threads that run one closure together.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    turn: Mutex<()>,
    /// How many things of each thread's share have been taken in the current deal.
    taken: Vec<Taken>,
    isa: Isa,
}

/// A counter with a cache line, and its neighbour, to itself.
#[derive(Default)]
#[repr(align(128))]
struct Taken(AtomicUsize);

impl Taken {
    /// The next half of what is left of `count` things. Every claim makes the processor wait for its reads, which a
    /// thread that streams weights feels; halves are few, and leave small things to help with at the end.
    fn claim(&self, count: usize) -> Option<Range<usize>> {
        let half = |from: usize| (from < count).then(|| from + (count - from).div_ceil(2));
        let from = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, half).ok()?;
        half(from).map(|to| from..to)
    }
}

/// The number of a job, with a cache line, and its neighbour, to itself.
#[derive(Default)]
#[repr(align(128))]
struct Begun(AtomicU32);

impl Begun {
    /// Takes the part of job `epoch`; false if it is taken. A thread that comes too late for a job finds a later number.
    fn claim(&self, epoch: u32) -> bool {
        self.0.compare_exchange(epoch.wrapping_sub(1), epoch, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

struct Shared {
    /// Number of the current job.
    epoch: AtomicU32,
    /// What each worker that has claimed its part runs; with nothing it ends.
    job: UnsafeCell<Option<Job>>,
    /// For each worker the last job whose part there is somebody's, its own or the caller's.
    begun: Vec<Begun>,
    /// Workers whose part of the current job is not done, or not the caller's to do.
    pending: AtomicUsize,
    asleep: Vec<AtomicBool>,
    caller_asleep: AtomicBool,
    caller: Mutex<Option<Thread>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written by the one caller that holds `turn`, before it raises `epoch`; a worker reads it after it has
// claimed its part of that epoch, and all who did are finished (`pending` is 0) before it is written again.
#[allow(unsafe_code)]
unsafe impl Sync for Shared {}
// SAFETY: as above; the closure behind the pointer is `Sync`, and outlives the job because `run` waits for it.
#[allow(unsafe_code)]
unsafe impl Send for Shared {}

impl Pool {
    /// Starts `threads - 1` workers beside the caller, for the best instruction set of this processor.
    pub fn new(threads: usize) -> Pool {
        Pool::with_isa(threads, Isa::detect())
    }

    /// The same, for a given instruction set; one that this processor lacks becomes `Scalar`.
    pub fn with_isa(threads: usize, isa: Isa) -> Pool {
        let named = |index| Builder::new().name(format!("kernel-{}", index + 1));
        Pool::starting(threads, isa, named, || {})
    }

    /// The same, where `builder(index)` starts each worker, which does something before its first job.
    fn starting(
        threads: usize,
        isa: Isa,
        builder: impl Fn(usize) -> Builder,
        first: impl Fn() + Clone + Send + 'static,
    ) -> Pool {
        let isa = if Isa::available().contains(&isa) { isa } else { Isa::Scalar };
        let count = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            epoch: AtomicU32::new(0),
            job: UnsafeCell::new(None),
            begun: (0..count).map(|_| Begun::default()).collect(),
            pending: AtomicUsize::new(0),
            asleep: (0..count).map(|_| AtomicBool::new(false)).collect(),
            caller_asleep: AtomicBool::new(false),
            caller: Mutex::new(None),
            panic: Mutex::new(None),
        });
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let (shared, first) = (Arc::clone(&shared), first.clone());
            let begin = move || {
                first();
                work(&shared, index);
            };
            // A system that refuses threads gets a smaller pool, not an error: results do not depend on the count.
            match builder(index).spawn(begin) {
                Ok(handle) => workers.push(handle),
                Err(_) => break,
            }
        }
        let taken = (0..=workers.len()).map(|_| Taken::default()).collect();
        Pool { shared, workers, turn: Mutex::new(()), taken, isa }
    }

    /// Threads that run a job, the caller among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The instruction set that kernels on this pool use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The device as people read it, such as `CPU, 2 threads, AVX-512 VNNI`.
    pub fn describe(&self) -> String {
        let threads = self.threads();
        format!("CPU, {threads} thread{}, {}", if threads == 1 { "" } else { "s" }, self.isa.name())
    }

    /// Runs `job(thread)` once for each thread index and returns when all are done; a panic in any is raised here.
    ///
    /// The indices must not wait for each other: a nested or concurrent call runs them one after another, and the caller
    /// runs those of threads that are late.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        match self.turn() {
            Some(turn) => self.run_in(turn, job, job),
            None => (0..self.threads()).for_each(job),
        }
    }

    /// Runs `work(thread, index)` once for every index below `count`. A thread begins with a contiguous share, in order,
    /// and then helps the others with theirs: nobody waits long for a thread that lost its core.
    pub fn deal(&self, count: usize, work: &(dyn Fn(usize, usize) + Sync)) {
        self.deal_after(&|_| {}, count, work);
    }

    /// The same, where each thread that takes part runs `prepare(thread)` once before its first index.
    pub fn deal_after(&self, prepare: &(dyn Fn(usize) + Sync), count: usize, work: &(dyn Fn(usize, usize) + Sync)) {
        let Some(turn) = self.turn() else {
            prepare(0);
            (0..count).for_each(|index| work(0, index));
            return;
        };
        self.taken.iter().for_each(|taken| taken.0.store(0, Ordering::Relaxed));
        let threads = self.threads();
        let part = |thread: usize| {
            prepare(thread);
            for owner in (thread..threads).chain(0..thread) {
                let share = share(count, owner, threads);
                while let Some(run) = self.taken[owner].claim(share.len()) {
                    run.for_each(|index| work(thread, share.start + index));
                }
            }
        };
        // Nothing is left for a thread that begins after another has come to the end.
        self.run_in(turn, &part, &|_| {});
    }

    /// The right to use the workers; nobody has it twice, and a pool of one thread needs none.
    fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        let turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        (!self.workers.is_empty()).then_some(turn)
    }

    /// Runs a job, and `late(thread)` in place of `job(thread)` for threads that have not begun when the caller has done.
    fn run_in(&self, turn: MutexGuard<'_, ()>, job: &(dyn Fn(usize) + Sync), late: &dyn Fn(usize)) {
        let epoch = self.publish(job);
        let own = catch_unwind(AssertUnwindSafe(|| {
            job(0);
            self.relieve(epoch, late);
        }));
        self.await_workers();
        let theirs = lock(&self.shared.panic).take();
        drop(turn);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        if let Some(panic) = theirs {
            resume_unwind(panic);
        }
    }

    /// Lets the workers begin a job; returns its number.
    fn publish(&self, job: &(dyn Fn(usize) + Sync)) -> u32 {
        let shared = &*self.shared;
        let job: *const (dyn Fn(usize) + Sync + '_) = job;
        // SAFETY: only the lifetime is widened; `run` does not return before every worker has finished with the job.
        #[allow(unsafe_code)]
        let job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(job) };
        // SAFETY: the caller holds `turn` and no worker reads the job until the epoch changes.
        #[allow(unsafe_code)]
        unsafe {
            *shared.job.get() = Some(job);
        }
        shared.pending.store(self.workers.len(), Ordering::Relaxed);
        let epoch = shared.epoch.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        for (worker, asleep) in self.workers.iter().zip(&shared.asleep) {
            if asleep.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        epoch
    }

    /// Takes the parts of the workers that have not begun.
    fn relieve(&self, epoch: u32, late: &dyn Fn(usize)) {
        let shared = &*self.shared;
        // Most have begun, and to ask each takes a cache line from it.
        if spin(GRACE, &|| self.done()) {
            return;
        }
        // Of those that were started: the system may have refused others.
        let started = shared.begun[..self.workers.len()].iter().enumerate();
        for (index, _) in started.filter(|(_, begun)| begun.claim(epoch)) {
            shared.pending.fetch_sub(1, Ordering::SeqCst);
            late(index + 1);
        }
    }

    fn done(&self) -> bool {
        self.shared.pending.load(Ordering::SeqCst) == 0
    }

    fn await_workers(&self) {
        let shared = &*self.shared;
        let done = || self.done();
        if spin(SPINS, &done) {
            return;
        }
        *lock(&shared.caller) = Some(std::thread::current());
        shared.caller_asleep.store(true, Ordering::SeqCst);
        while !done() {
            std::thread::park();
        }
        shared.caller_asleep.store(false, Ordering::SeqCst);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: nobody is in `run`, so every part of the last job is done, and no worker reads the next until the epoch changes.
        #[allow(unsafe_code)]
        unsafe {
            *self.shared.job.get() = None;
        }
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches every panic of a job, so joining has nothing to report.
            let _ = worker.join();
        }
    }
}

/// Polls `done`; false after so many times.
fn spin(polls: u32, done: &dyn Fn() -> bool) -> bool {
    for _ in 0..polls {
        if done() {
            return true;
        }
        std::hint::spin_loop();
    }
    done()
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let arrived = || shared.epoch.load(Ordering::SeqCst) != seen;
        if !spin(SPINS, &arrived) {
            shared.asleep[index].store(true, Ordering::SeqCst);
            while !arrived() {
                std::thread::park();
            }
            shared.asleep[index].store(false, Ordering::SeqCst);
        }
        seen = shared.epoch.load(Ordering::SeqCst);
        if !shared.begun[index].claim(seen) {
            continue;
        }
        // SAFETY: this part was still to be had, so the job is published, and it stays until this worker lowers `pending`.
        #[allow(unsafe_code)]
        let Some(job) = (unsafe { (*shared.job.get()).map(|job| &*job) }) else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(index + 1))) {
            lock(&shared.panic).get_or_insert(panic);
        }
        if shared.pending.fetch_sub(1, Ordering::SeqCst) == 1
            && shared.caller_asleep.load(Ordering::SeqCst)
            && let Some(caller) = lock(&shared.caller).as_ref()
        {
            caller.unpark();
        }
    }
}

/// Locks; a poisoned lock is still sound here, since each holds one whole value.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
