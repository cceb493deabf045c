//! Chromium without a window, driven by its `DevTools` protocol over a pipe: what a person would
//! see and do.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Server, eventually, installed, on_every_architecture};

/// As Debian has it without a desktop.
const BROWSER: &str = "chromium-headless-shell";

/// A browser with one page.
struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    commands: u64,
    session: Option<String>,
    _profile: TempDir,
}

impl Browser {
    /// None, in words, where there is none.
    fn open() -> Option<Self> {
        installed(BROWSER)?;
        let profile = TempDir::new().unwrap();
        // It takes commands from descriptor 3, and answers on 4.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1", BROWSER]);
        // Root, who runs CI, may not have a sandbox; nothing is fetched but from our servers.
        command.args(["--no-sandbox", "--disable-gpu", "--disable-background-networking"]);
        command.args(["--disable-dev-shm-usage", "--remote-debugging-pipe"]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let from = BufReader::new(from);
        let mut browser =
            Browser { child, to, from, commands: 0, session: None, _profile: profile };
        let page = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let target = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &target);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        Some(browser)
    }

    /// Has a command carried out, and returns its result.
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.commands += 1;
        let mut command = json!({ "id": self.commands, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{command}\0").as_bytes()).unwrap();
        loop {
            let mut said = Vec::new();
            self.from.read_until(0, &mut said).unwrap();
            assert_eq!(said.pop(), Some(0), "the browser ended at {command}");
            let mut answer: Value = serde_json::from_slice(&said).unwrap();
            // What else it says are events.
            if answer["id"] == self.commands {
                return answer["result"].take();
            }
        }
    }

    fn go_to(&mut self, url: &str) {
        let went = self.call("Page.navigate", &json!({ "url": url }));
        assert!(went["errorText"].is_null(), "{url}: {went}");
    }

    /// The text that an expression is in a page that is whole, once it is one.
    fn script(&mut self, expression: &str) -> String {
        let expression = format!("document.readyState == 'complete' ? {expression} : null");
        let parameters = json!({ "expression": expression, "returnByValue": true });
        eventually(&expression, || {
            // Between two pages there is none, and what is sought is not there yet.
            let answer = self.call("Runtime.evaluate", &parameters);
            answer["result"]["value"].as_str().map(str::to_owned)
        })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a folder, follows a link, and signs the guestbook.
fn visit(browser: &mut Browser, server: &Server) {
    let name = &server.architecture.name;
    fs::write(server.root.path().join("a & b.txt"), "content").unwrap();
    browser.go_to(&super::url(server, "/"));
    browser.script("(document.querySelector('a[href$=\".txt\"]').click(), 'followed')");
    let text = "location.pathname.endsWith('.txt') ? document.body.innerText";
    assert_eq!(browser.script(&format!("{text} : null")), "content", "{name}");

    browser.go_to(&super::url(server, "/guestbook"));
    let entry = format!("é <b> & \"{name}\"");
    let write = format!("document.querySelector('[name=entry]').value = {}", json!(entry));
    browser.script(&format!("({write}, document.querySelector('button').click(), 'signed')"));
    let entries = "[...document.querySelectorAll('dd')]";
    let shows = format!("{entries}.some(shown => shown.innerText == {})", json!(entry));
    browser.script(&format!("{shows} ? 'shown' : null"));
}

#[test]
fn a_browser_reads_a_folder_and_signs_the_guestbook() {
    let Some(mut browser) = Browser::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book");
    let guestbook = ["--guestbook", book.to_str().unwrap()];
    on_every_architecture(&[super::WRITABLE, &guestbook].concat(), |server| {
        visit(&mut browser, server);
    });
}
