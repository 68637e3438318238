//! The pool under many jobs, panics and callers.

use super::{Isa, Pool};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock, mpsc};
use std::thread::Builder;
use std::time::Duration;

fn counted(pool: &Pool) -> Vec<usize> {
    let counts: Vec<AtomicUsize> = (0..pool.threads()).map(|_| AtomicUsize::new(0)).collect();
    pool.run(&|thread| {
        counts[thread].fetch_add(1, Ordering::Relaxed);
    });
    counts.into_iter().map(AtomicUsize::into_inner).collect()
}

#[test]
fn every_thread_runs_every_job_once() {
    for threads in [1, 2, 5] {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads);
        for _ in 0..5_000 {
            assert_eq!(counted(&pool), vec![1; threads]);
        }
    }
}

#[test]
fn parked_threads_wake_for_the_next_job() {
    let pool = Pool::new(3);
    for _ in 0..20 {
        assert_eq!(counted(&pool), [1; 3]);
        // Long enough that the workers stop spinning.
        std::thread::park_timeout(Duration::from_millis(3));
    }
}

#[test]
fn a_caller_that_finishes_first_waits_for_the_others() {
    let pool = Pool::new(2);
    let done = AtomicUsize::new(0);
    for round in 1..=10 {
        pool.run(&|thread| {
            if thread == 1 {
                std::thread::park_timeout(Duration::from_millis(3));
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(done.load(Ordering::Relaxed), round);
    }
}

#[test]
fn a_panic_in_any_thread_reaches_the_caller_and_leaves_the_pool_usable() {
    let pool = Pool::new(3);
    for culprit in 0..3 {
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|thread| {
                if thread == culprit {
                    std::panic::panic_any(culprit);
                }
            });
        }));
        assert_eq!(result.unwrap_err().downcast_ref::<usize>(), Some(&culprit));
        assert_eq!(counted(&pool), [1; 3]);
    }
}

#[test]
fn nested_and_concurrent_jobs_complete() {
    let pool = Pool::new(2);
    let total = AtomicUsize::new(0);
    pool.run(&|_| {
        pool.run(&|_| {
            total.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(total.load(Ordering::Relaxed), 4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|_| assert_eq!(counted(&pool), [1, 1])));
        }
    });
}

#[test]
fn it_says_what_it_runs_on() {
    assert!(Pool::new(2).describe().starts_with("CPU, 2 threads, "));
    assert!(Pool::with_isa(1, Isa::Scalar).describe().starts_with("CPU, 1 thread, portable"));
}

#[test]
fn every_index_of_a_deal_is_worked_once_by_whoever_is_free() {
    for threads in [1, 2, 5] {
        let pool = Pool::new(threads);
        for count in [0, 1, 3, 64] {
            let counts: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            let prepared: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            let prepare = |thread: usize| {
                prepared[thread].fetch_add(1, Ordering::Relaxed);
            };
            pool.deal_after(&prepare, count, &|thread, index| {
                assert_eq!(prepared[thread].load(Ordering::Relaxed), 1);
                counts[index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }
}

#[test]
fn a_thread_that_is_held_up_gets_help() {
    let pool = Pool::new(2);
    let by_other = AtomicUsize::new(0);
    // What the caller takes first, half of its share, ends only when the other thread has worked the other half.
    pool.deal(8, &|thread, index| {
        if thread == 0 {
            while by_other.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
        } else if index < 4 {
            by_other.fetch_add(1, Ordering::SeqCst);
        }
    });
    assert!(by_other.load(Ordering::SeqCst) >= 2);
}

#[test]
fn threads_that_have_not_begun_hold_nothing_up_and_come_in_later() {
    let gate = Arc::new(RwLock::new(()));
    let closed = gate.write().unwrap();
    let entrance = Arc::clone(&gate);
    let pool = Pool::starting(3, Isa::Scalar, |_| Builder::new(), move || drop(entrance.read()));
    for _ in 0..100 {
        assert_eq!(counted(&pool), [1; 3]);
        let (prepared, worked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let prepare = |_| {
            prepared.fetch_add(1, Ordering::Relaxed);
        };
        pool.deal_after(&prepare, 64, &|_, _| {
            worked.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!((prepared.into_inner(), worked.into_inner()), (1, 64));
    }
    let culprit = catch_unwind(AssertUnwindSafe(|| {
        pool.run(&|thread| assert!(thread != 2, "thread {thread}"));
    }));
    assert!(culprit.is_err());
    drop(closed);
    for _ in 0..1_000 {
        assert_eq!(counted(&pool), [1; 3]);
    }
    let waited = AtomicUsize::new(0);
    // Ends only if others come in.
    pool.deal(64, &|thread, _| match thread {
        0 => (0..).take_while(|_| waited.load(Ordering::SeqCst) == 0).for_each(|_| std::thread::yield_now()),
        _ => {
            waited.fetch_add(1, Ordering::SeqCst);
        }
    });
}

#[test]
fn a_system_that_refuses_a_thread_gets_a_smaller_pool() {
    let gate = Arc::new(RwLock::new(()));
    let closed = gate.write().unwrap();
    let entrance = Arc::clone(&gate);
    // No system has so large a stack.
    let builder = |index| if index == 0 { Builder::new() } else { Builder::new().stack_size(1 << 47) };
    let pool = Pool::starting(3, Isa::Scalar, builder, move || drop(entrance.read()));
    assert_eq!(pool.threads(), 2);
    // The caller does what the one that has not begun would do, and nothing for the one that is not there.
    for _ in 0..100 {
        assert_eq!(counted(&pool), [1; 2]);
    }
    drop(closed);
    for _ in 0..1_000 {
        assert_eq!(counted(&pool), [1; 2]);
    }
}

#[test]
fn a_worker_that_comes_as_its_pool_ends_runs_no_job_again() {
    let runs = Arc::new(AtomicUsize::new(0));
    for round in 1..=1_000 {
        let gate = Arc::new(RwLock::new(()));
        let closed = gate.write().unwrap();
        let entrance = Arc::clone(&gate);
        let pool = Pool::starting(2, Isa::Scalar, |_| Builder::new(), move || drop(entrance.read()));
        let counter = Arc::clone(&runs);
        pool.run(&move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            drop(pool);
            tell.send(()).unwrap();
        });
        drop(closed);
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(()), "the worker ends");
        assert_eq!(runs.load(Ordering::SeqCst), 2 * round);
    }
}
