//! Passwords: what is kept of one, and how another is held against it (Argon2, RFC 9106, in PHC
//! strings).
//!
//! **Invariant:** a [`Password`] is wiped when it is dropped, and nothing prints it. No more are
//! checked at a time, in one process, than there are processors: each takes the memory that its
//! hash asks for (19 MiB by default), and more of them would only share the same processors. Who
//! comes when all are taken waits for a turn.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{Algorithm, Argon2, Block, MIN_SALT_LEN, Params, Version};
use memmap2::{MmapMut, MmapOptions};
use zeroize::Zeroizing;

/// The longest password that `ftp-user` takes, in bytes: well within a line of FTP.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// What a user says to be let in.
pub struct Password(Zeroizing<Vec<u8>>);

/// What is kept of a password, to check another against.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(PasswordHash);

/// A text is no hash that passwords can be checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an Argon2 hash as a PHC string ($argon2id$v=19$m=…,t=…,p=…$salt$hash)")]
pub struct UnfitHash;

/// The system gave no random bytes, or no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the password could not be hashed: {0}")]
pub struct CannotHash(argon2::password_hash::Error);

impl Password {
    /// A copy of these bytes; wiping them is left to whoever has them.
    pub fn new(bytes: &[u8]) -> Self {
        Password(Zeroizing::new(bytes.to_vec()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(…)")
    }
}

impl Hash {
    /// What is to be kept of a password, with a salt of its own and the costs that OWASP
    /// recommends (19 MiB, two passes).
    pub fn of(password: &Password) -> Result<Self, CannotHash> {
        Argon2::default().hash_password(&password.0).map(Hash).map_err(CannotHash)
    }

    /// Whether this is the password. It takes tens of milliseconds of CPU time, and waits for a
    /// turn before that. An error says that there is no memory for it.
    pub fn is_of(&self, password: &Password) -> io::Result<bool> {
        let _turn = Turn::wait();
        // An `Output` compares in constant time.
        Ok(self.0.hash == Some(self.same_of(password)?))
    }

    /// What is kept of another password, made in the same way.
    fn same_of(&self, password: &Password) -> io::Result<Output> {
        let (Some(salt), Some(expected)) = (&self.0.salt, &self.0.hash) else {
            return Err(unfit(UnfitHash));
        };
        let algorithm = Algorithm::try_from(self.0.algorithm.as_str()).map_err(unfit)?;
        let version = self.0.version.map(Version::try_from).transpose().map_err(unfit)?;
        let params = Params::try_from(&self.0).map_err(unfit)?;
        let mut memory = Memory::new(params.block_count())?;
        let mut output = [0; Output::MAX_LENGTH];
        let output = &mut output[..expected.len()];
        Argon2::new(algorithm, version.unwrap_or_default(), params)
            .hash_password_into_with_memory(&password.0, salt, output, memory.blocks())
            .map_err(unfit)?;
        Output::new(output).map_err(unfit)
    }

    /// What a check of one costs that [`of`](Self::of) has made.
    pub fn usual_cost() -> u64 {
        u64::from(Params::DEFAULT_M_COST) * u64::from(Params::DEFAULT_T_COST)
    }

    /// What a check costs, in blocks of memory that are filled.
    pub fn cost(&self) -> u64 {
        Params::try_from(&self.0)
            .map_or(0, |params| u64::from(params.m_cost()) * u64::from(params.t_cost()))
    }
}

/// What [`Hash::from_str`] has seen to.
fn unfit(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// What a check fills. It is mapped, and so is given back: an allocator, which learns from the size
/// that such blocks come again, would keep one for each thread that has ever checked a password.
struct Memory(MmapMut);

impl Memory {
    fn new(blocks: usize) -> io::Result<Self> {
        MmapOptions::new().len(blocks * Block::SIZE).populate().map_anon().map(Memory)
    }

    #[allow(unsafe_code, reason = "mapped bytes are seen as blocks")]
    fn blocks(&mut self) -> &mut [Block] {
        // SAFETY: a Block is an array of integers, for which any bytes will do. A mapping begins
        // with a page, and is as long as so many blocks, so that there is nothing around them.
        let (_, blocks, _) = unsafe { self.0.align_to_mut() };
        blocks
    }
}

/// Everything that a check needs is seen to be there, so that none fails later.
impl FromStr for Hash {
    type Err = UnfitHash;

    fn from_str(text: &str) -> Result<Self, UnfitHash> {
        let hash = PasswordHash::new(text).map_err(|_| UnfitHash)?;
        let known = Algorithm::try_from(hash.algorithm.as_str()).is_ok()
            && hash.version.is_none_or(|version| Version::try_from(version).is_ok())
            && Params::try_from(&hash).is_ok()
            && hash.salt.as_ref().is_some_and(|salt| salt.len() >= MIN_SALT_LEN)
            && hash.hash.is_some();
        if known { Ok(Hash(hash)) } else { Err(UnfitHash) }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A hash is no password, and yet nothing to be found in a log.
impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hash(…)")
    }
}

/// How many more may be checked now.
static FREE: LazyLock<Mutex<usize>> =
    LazyLock::new(|| Mutex::new(std::thread::available_parallelism().map_or(1, usize::from)));
static FREED: Condvar = Condvar::new();

/// The right to check a password now.
struct Turn;

impl Turn {
    fn wait() -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let free = FREED.wait_while(free, |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        FREED.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `secret`, at the least cost that there is.
    const CHEAP: &str =
        "$argon2id$v=19$m=8,t=1,p=1$YSBmaXhlZCBzYWx0$ZdxW6tkjqaaRT54leQFEQD0hS+erohxgTV1gKYXeQ0U";

    #[test]
    fn a_password_is_known_by_its_hash() {
        let hash: Hash = CHEAP.parse().unwrap();
        assert!(hash.is_of(&Password::new(b"secret")).unwrap());
        assert!(!hash.is_of(&Password::new(b"Secret")).unwrap());
        assert!(!hash.is_of(&Password::new(b"")).unwrap());
        assert_eq!(hash.to_string(), CHEAP);
    }

    #[test]
    fn a_text_that_no_password_can_be_checked_against_is_refused() {
        let (start, _) = CHEAP.rsplit_once('$').unwrap();
        let others = [
            "",
            "secret",
            start,
            "$1$salt$hash",
            &CHEAP.replace("argon2id", "scrypt"),
            &CHEAP.replace("v=19", "v=18"),
            &CHEAP.replace("m=8", "m=7"),
            &format!("{CHEAP}$more"),
        ];
        for text in others {
            assert_eq!(text.parse::<Hash>(), Err(UnfitHash), "{text}");
        }
    }

    #[test]
    fn more_checks_than_processors_all_come_to_their_end() {
        let hash: Hash = CHEAP.parse().unwrap();
        std::thread::scope(|scope| {
            let checks: Vec<_> = (0..32)
                .map(|_| scope.spawn(|| hash.is_of(&Password::new(b"secret")).unwrap()))
                .collect();
            assert!(checks.into_iter().all(|check| check.join().unwrap()));
        });
    }

    #[test]
    fn neither_passwords_nor_hashes_are_printed() {
        let hash: Hash = CHEAP.parse().unwrap();
        let text = format!("{:?} {hash:?}", Password::new(b"secret"));
        assert_eq!(text, "Password(…) Hash(…)");
    }
}
