//! What slow clients of long files take of the machine: the kernel's threads, among our own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// More than there are pipes for.
const CLIENTS: usize = 100;
/// So many have pipes; the process has its own, and the kernel may keep some for other work.
const THREADS_MAX: usize = 64 + 16;
/// More than the buffers of two sockets hold.
const FILE_BYTES: usize = 10_000_000;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Has asked for the file, and waits.
fn client(address: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    client.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    client
}

#[test]
fn many_slow_clients_of_long_files_share_few_threads_and_get_them_whole() {
    let asked = Command::new(env!("CARGO_BIN_EXE_completion")).arg("--help").output().unwrap();
    if !asked.status.success() {
        // Past the harness, which shows only what failing tests have printed.
        let why = String::from_utf8_lossy(&asked.stderr);
        let told = format!("SKIPPED: completion is not available: {}\n", why.trim());
        return std::io::stderr().write_all(told.as_bytes()).unwrap();
    }
    let root = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("slow_clients");
    std::fs::create_dir_all(&root).unwrap();
    let bytes: Vec<u8> = (0..=250).cycle().take(FILE_BYTES).collect();
    std::fs::write(root.join("long"), &bytes).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_completion"));
    command.args(["--protocol", "http", "--listen", "127.0.0.1:0", "--root"]).arg(&root);
    let mut server = Server(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut ready = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let address = ready.trim().strip_prefix("listening on ").unwrap().parse().unwrap();

    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| client(address)).collect();
    // Each is being served when its first byte is there, and then waited for.
    for client in &mut clients {
        client.read_exact(&mut [0]).unwrap();
    }
    let threads = format!("/proc/{}/task", server.0.id());
    let count = std::fs::read_dir(threads).unwrap().count();
    assert!(count <= THREADS_MAX, "{count} threads");
    for mut client in clients {
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).unwrap();
        assert!(reply.ends_with(&bytes));
    }
}
