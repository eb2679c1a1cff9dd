//! A pool of threads that verify passwords. Password hashes are slow by design, so they must not run on
//! an event loop, nor on so many threads that they take all processors.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use lru::LruCache;
use rustix::rand::{GetRandomFlags, getrandom};

use super::credentials::Credentials;

/// Concurrent verifications. One takes about 50 ms of processor time, so the limit is about 40 per
/// second. The helper threads stay available for files.
const MAX_RUNNING: usize = 2;

/// Requests that may wait for a verification; further ones get a 503. A browser opens six
/// connections.
const MAX_WAITING: usize = 64;

/// Logins that are cached as keyed hashes. The least recently used ones are evicted and verified
/// again.
const MAX_CACHED: usize = 1024;

/// A user name and a password from a request, not verified.
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

/// The result of verifying a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The password is correct.
    Accepted,
    /// The password is wrong, or the user is unknown.
    Denied,
    /// Not verified, because too many logins are waiting.
    Overloaded,
}

type OnVerdict = Box<dyn FnOnce(Verdict) + Send>;

pub(super) struct PasswordPool {
    credentials: Credentials,
    /// The key of the cached hashes, random for each process: hashes from a memory dump cannot be
    /// looked up in a precomputed table, and clients cannot choose where their logins are in the
    /// cache's hash table. `None` if the system has no random bytes; nothing is cached then.
    key: Option<[u8; 32]>,
    cache: Mutex<LruCache<blake3::Hash, ()>>,
    queue: Mutex<VerifyQueue>,
}

#[derive(Default)]
struct VerifyQueue {
    waiting: VecDeque<(Login, OnVerdict)>,
    /// Threads that verify a login. At most [`MAX_RUNNING`].
    running: usize,
}

impl PasswordPool {
    pub(super) fn new(credentials: Credentials) -> Self {
        let capacity = NonZeroUsize::new(MAX_CACHED).unwrap_or(NonZeroUsize::MIN);
        Self {
            credentials,
            key: random_key(),
            cache: Mutex::new(LruCache::new(capacity)),
            queue: Mutex::default(),
        }
    }

    /// Returns whether the login was accepted before and is still cached. Fast enough for an event
    /// loop.
    pub(super) fn is_cached(&self, login: &Login) -> bool {
        let hash = self.keyed_hash(login);
        // blake3 compares hashes in constant time.
        hash.is_some_and(|hash| lock(&self.cache).get(&hash).is_some())
    }

    /// Verifies a login and calls `on_verdict` with the result, on a thread that `on_verdict` may
    /// keep. [`Verdict::Overloaded`] is reported at once on the caller's thread.
    pub(super) fn verify(self: &Arc<Self>, login: Login, on_verdict: OnVerdict) {
        let mut queue = lock(&self.queue);
        if queue.waiting.len() >= MAX_WAITING {
            drop(queue);
            return on_verdict(Verdict::Overloaded);
        }
        queue.waiting.push_back((login, on_verdict));
        if queue.running < MAX_RUNNING {
            queue.running += 1;
            drop(queue);
            self.spawn_thread();
        }
    }

    /// Starts a thread for one login, which is counted as running already. The cost of a thread is
    /// small compared to a verification, and the callback may keep the thread.
    fn spawn_thread(self: &Arc<Self>) {
        let pool = Arc::clone(self);
        let thread = thread::Builder::new().name("verifier".to_owned());
        if let Err(error) = thread.spawn(move || pool.verify_next()) {
            log::error!("passwords: cannot start a verification thread: {error}");
            let mut queue = lock(&self.queue);
            queue.running -= 1;
            let abandoned = std::mem::take(&mut queue.waiting);
            drop(queue);
            abandoned
                .into_iter()
                .for_each(|(_, on_verdict)| on_verdict(Verdict::Overloaded));
        }
    }

    fn verify_next(self: &Arc<Self>) {
        let next = lock(&self.queue).waiting.pop_front();
        let verified = next.map(|(login, on_verdict)| {
            let validate = AssertUnwindSafe(|| self.validate(&login));
            (
                catch_unwind(validate).unwrap_or(Verdict::Denied),
                on_verdict,
            )
        });
        let mut queue = lock(&self.queue);
        if queue.waiting.is_empty() {
            queue.running -= 1;
            drop(queue);
        } else {
            drop(queue);
            self.spawn_thread();
        }
        if let Some((verdict, on_verdict)) = verified {
            on_verdict(verdict);
        }
    }

    fn validate(&self, login: &Login) -> Verdict {
        // The same login may have been accepted while this one was waiting.
        if self.is_cached(login) {
            return Verdict::Accepted;
        }
        if !self.credentials.verify(&login.user, &login.password) {
            return Verdict::Denied;
        }
        if let Some(hash) = self.keyed_hash(login) {
            lock(&self.cache).put(hash, ());
        }
        Verdict::Accepted
    }

    fn keyed_hash(&self, login: &Login) -> Option<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(self.key.as_ref()?);
        // A user name has no colon (RFC 7617 §2), so the input is unambiguous.
        hasher.update(login.user.as_bytes());
        hasher.update(b":");
        hasher.update(login.password.as_bytes());
        Some(hasher.finalize())
    }
}

/// `None` if the system has no random bytes.
fn random_key() -> Option<[u8; 32]> {
    let mut key = [0; 32];
    let count = getrandom(&mut key, GetRandomFlags::empty());
    (count == Ok(key.len())).then_some(key)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::middleware::credentials::tests::credentials;

    fn login(password: &str) -> Login {
        Login {
            user: "ana".to_owned(),
            password: password.to_owned(),
        }
    }

    fn verdict(pool: &Arc<PasswordPool>, password: &str) -> Verdict {
        let (sender, receiver) = mpsc::channel();
        let on_verdict = move |verdict| sender.send(verdict).expect("the test waits");
        pool.verify(login(password), Box::new(on_verdict));
        receiver.recv().expect("a verdict")
    }

    #[test]
    fn only_accepted_logins_are_cached() {
        let pool = Arc::new(PasswordPool::new(credentials()));
        assert!(!pool.is_cached(&login("secret")));
        assert_eq!(verdict(&pool, "wrong"), Verdict::Denied);
        assert_eq!(verdict(&pool, "secret"), Verdict::Accepted);
        assert!(pool.is_cached(&login("secret")));
        assert!(!pool.is_cached(&login("wrong")));
        for number in 0..MAX_CACHED {
            let hash = blake3::hash(&number.to_le_bytes());
            lock(&pool.cache).put(hash, ());
        }
        assert!(!pool.is_cached(&login("secret")), "the cache is bounded");
    }

    #[test]
    fn logins_beyond_the_queue_are_overloaded() {
        let pool = Arc::new(PasswordPool::new(credentials()));
        // As if all threads were running.
        lock(&pool.queue).running = MAX_RUNNING;
        let (sender, receiver) = mpsc::channel();
        for _ in 0..MAX_WAITING + 3 {
            let sender = sender.clone();
            let on_verdict = move |verdict| sender.send(verdict).expect("the test waits");
            pool.verify(login("secret"), Box::new(on_verdict));
        }
        let overloaded: Vec<_> = receiver.try_iter().collect();
        assert_eq!(overloaded, [Verdict::Overloaded; 3]);
        // One thread serves all that wait.
        pool.verify_next();
        let rest: Vec<_> = receiver.iter().take(MAX_WAITING).collect();
        assert_eq!(rest, [Verdict::Accepted; MAX_WAITING]);
    }
}
