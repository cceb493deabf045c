//! A site, and a client of it, without sockets.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use common::conformance::{Client, Fault, Outcome, run};
use common::http;
use common::ports::Passive;
use common::session::{Settings, SharedSettings};
use common::users::Users;
use tempfile::TempDir;

/// When all files were last changed.
pub(crate) const MODIFIED: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
const MODIFIED_SECONDS: u64 = 1_000_000_000;

thread_local! {
    /// The time of day: at first a day later.
    static NOW_SECONDS: Cell<u64> = const { Cell::new(MODIFIED_SECONDS + 86_400) };
}

/// So much time passes.
pub(crate) fn pass(seconds: u64) {
    NOW_SECONDS.set(NOW_SECONDS.get() + seconds);
}

pub(crate) struct Site {
    pub(crate) root: TempDir,
    pub(crate) settings: SharedSettings,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(|settings| settings.writable = true)
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            root: Arc::new(Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap()),
            writable: false,
            users: Users::default(),
            passive: Passive::default(),
            idle_timeout: Duration::from_mins(1),
            backend: Some("127.0.0.1:9".parse().unwrap()),
            tls: None,
            guestbook: None,
            files: http::Files::new(4),
            now: || SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_SECONDS.get()),
        };
        change(&mut settings);
        let site = Site { root, settings: Arc::new(settings) };
        fs::create_dir(site.path("folder")).unwrap();
        fs::create_dir(site.path("bare")).unwrap();
        site.file("index.html", b"<p>home");
        site.file("a b.txt", b"text");
        site.file("digits.txt", b"0123456789");
        site.file("empty", b"");
        site.file("large", &large());
        site.file("folder/index.html", b"<p>folder");
        std::os::unix::fs::symlink("/etc/passwd", site.path("passwd")).unwrap();
        site
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, content: &[u8]) {
        write(&self.path(name), content);
    }

    pub(crate) fn stored(&self, name: &str) -> String {
        String::from_utf8(fs::read(self.path(name)).unwrap()).unwrap()
    }

    pub(crate) fn session(&self) -> http::Session {
        http::Session::new(&self.settings)
    }

    pub(crate) fn play(&self, client: &Client, fault: Option<(usize, Fault)>) -> Outcome {
        run(Box::new(self.session()), client, fault)
    }

    pub(crate) fn converse(&self, input: &str) -> Outcome {
        let data = b"HTTP/1.1 200 OK\r\n\r\nfrom behind";
        self.play(&Client::new(input.as_bytes(), data), None)
    }

    /// The replies to `input`, without what never changes.
    pub(crate) fn replies(&self, input: &str) -> String {
        let text = String::from_utf8(self.converse(input).control).unwrap();
        let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("Date: "));
        lines.collect::<String>().replace('\r', "")
    }

    /// The reply to one request, with these fields beside Host.
    pub(crate) fn ask(&self, method: &str, target: &str, fields: &str) -> String {
        self.replies(&format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    pub(crate) fn get(&self, target: &str) -> String {
        self.ask("GET", target, "")
    }

    /// The value of a field of the reply to GET.
    pub(crate) fn field(&self, target: &str, name: &str) -> String {
        field(&self.get(target), name).unwrap()
    }
}

/// The value of a field of a reply.
pub(crate) fn field(reply: &str, name: &str) -> Option<String> {
    let head = reply.split("\n\n").next().unwrap();
    let value = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.map(str::to_owned)
}

pub(crate) fn body(reply: &str) -> &str {
    reply.split_once("\n\n").unwrap().1
}

/// A file that is sent from the disk, and of which no stretch is like another.
pub(crate) fn large() -> Vec<u8> {
    (0..200_000).map(|i| b'!' + (i * 7 / 5 % 90) as u8).collect()
}

fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED_SECONDS);
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}
