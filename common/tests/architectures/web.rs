//! HTTP and echo over real sockets, on every architecture.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::http_table::{clear, codes, furnish, table};
use crate::support::{
    Server, architectures, installed, names, on_every_architecture, pattern, read_to_end, succeed,
};

const HTTP: &[&str] = &["--protocol", "http"];
/// More than the buffers of two sockets hold.
const LONG_BYTES: usize = 10_000_000;

/// Sends `request`, and reads until the server closes.
fn exchange(server: &Server, request: &[u8]) -> String {
    let mut client = server.connect();
    client.write_all(request).unwrap();
    String::from_utf8(read_to_end(client)).unwrap()
}

#[test]
fn curl_reads_files_and_paths_on_one_connection() {
    let Some(_) = installed("curl") else { return };
    on_every_architecture(HTTP, |server| {
        let bytes = server.file("file", 1_000_003);
        let base = format!("http://127.0.0.1:{}", server.port());
        let get = |arguments: &[&str], paths: &[&str]| {
            let mut curl = installed("curl").unwrap();
            curl.args(["--silent", "--show-error", "--fail", "--max-time", "30"]).args(arguments);
            curl.args(paths.iter().map(|path| format!("{base}{path}")));
            succeed(&mut curl).stdout
        };
        assert!(get(&[], &["/file"]) == bytes);
        assert_eq!(get(&[], &["/plaintext", "/plaintext"]), b"Hello, World!Hello, World!");
        assert_eq!(get(&[], &["/json"]), br#"{"message":"Hello, World!"}"#);
        assert_eq!(get(&[], &["/bytes/123456"]).len(), 123_456);
        assert_eq!(get(&[], &["/compute/1000", "/block/1"]), b"OKOK");
        let head = String::from_utf8(get(&["--head"], &["/file"])).unwrap();
        assert!(head.to_lowercase().contains("content-length: 1000003"), "{head}");
        let connects = get(&["--write-out", "%{num_connects} "], &["/plaintext", "/json"]);
        let connects = String::from_utf8(connects).unwrap();
        assert!(connects.contains("Hello, World!1 ") && connects.ends_with("0 "), "{connects}");
    });
}

#[test]
fn a_client_may_take_its_time_with_a_long_file() {
    on_every_architecture(HTTP, |server| {
        let bytes = server.file("long", LONG_BYTES);
        let mut client = server.connect();
        client.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        client.read_exact(&mut [0]).unwrap();
        // Meanwhile the server finds no room any more.
        thread::sleep(Duration::from_millis(50));
        assert!(read_to_end(client).ends_with(&bytes), "{}", server.architecture.name);
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    on_every_architecture(HTTP, |server| {
        let request = |length| format!("GET /bytes/{length} HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut requests: String = (1..=40).map(request).collect();
        requests += "GET /plaintext HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let replies = exchange(server, requests.as_bytes()).to_lowercase();
        let lengths: Vec<usize> = replies
            .lines()
            .filter_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok())
            .collect();
        let expected: Vec<usize> = (1..=40).chain([13]).collect();
        assert_eq!(lengths, expected, "{}", server.architecture.name);
    });
}

/// Sends a row of the table as far as the server takes it, and reads until it closes.
fn answer(server: &Server, request: &str) -> String {
    let mut client = server.connect();
    let mut sender = client.try_clone().unwrap();
    let request = request.as_bytes().to_vec();
    let sending = thread::spawn(move || {
        let _ = sender.write_all(&request).and_then(|()| sender.shutdown(Shutdown::Write));
    });
    let mut said = Vec::new();
    let _ = client.read_to_end(&mut said);
    sending.join().unwrap();
    codes(&String::from_utf8(said).unwrap())
}

#[test]
fn what_could_be_read_in_two_ways_or_is_too_large_is_answered_as_the_table_says() {
    let rows = table();
    on_every_architecture(&["--protocol", "http", "--writable"], |server| {
        furnish(server.root.path());
        let mut wrong = Vec::new();
        for (request, expected) in &rows {
            clear(server.root.path());
            let found = answer(server, request);
            if found != *expected {
                let shown: String = request.chars().take(200).collect();
                wrong.push(format!("{shown:?} gets {found}, not {expected}"));
            }
        }
        assert!(wrong.is_empty(), "{}:\n{}", server.architecture.name, wrong.join("\n"));
    });
}

#[test]
fn half_a_request_gets_408_after_the_idle_timeout() {
    on_every_architecture(&["--protocol", "http", "--idle-timeout", "1"], |server| {
        let reply = exchange(server, b"GET /plaintext HTTP/1.1\r\nHo");
        assert!(reply.starts_with("HTTP/1.1 408 "), "{}: {reply}", server.architecture.name);
        assert!(read_to_end(server.connect()).is_empty(), "who says nothing is told nothing");
    });
}

#[test]
fn a_byte_at_a_time_buys_no_time() {
    on_every_architecture(&["--protocol", "http", "--idle-timeout", "1"], |server| {
        let mut client = server.connect();
        client.write_all(b"GET /plaintext HTTP/1.1\r\nX: ").unwrap();
        let mut sender = client.try_clone().unwrap();
        let dripping = thread::spawn(move || {
            while sender.write_all(b"x").is_ok() {
                thread::sleep(std::time::Duration::from_millis(100));
            }
        });
        let mut reply = String::new();
        let _ = client.read_to_string(&mut reply);
        assert!(reply.starts_with("HTTP/1.1 408 "), "{}: {reply:?}", server.architecture.name);
        drop(client);
        dripping.join().unwrap();
    });
}

#[test]
fn an_upload_that_drips_is_cut_off_and_leaves_nothing() {
    let arguments = ["--protocol", "http", "--writable", "--idle-timeout", "1"];
    on_every_architecture(&arguments, |server| {
        let mut client = server.connect();
        let head = b"PUT /upload/a HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
        client.write_all(head).unwrap();
        let mut sender = client.try_clone().unwrap();
        let dripping = thread::spawn(move || {
            while sender.write_all(b"x").is_ok() {
                thread::sleep(std::time::Duration::from_millis(100));
            }
        });
        let mut reply = String::new();
        let _ = client.read_to_string(&mut reply);
        assert!(reply.starts_with("HTTP/1.1 408 "), "{}: {reply:?}", server.architecture.name);
        drop(client);
        dripping.join().unwrap();
        let left = names(&server.root.path().join("upload"));
        assert!(left.is_empty(), "{}: {left:?}", server.architecture.name);
    });
}

#[test]
fn the_backend_is_called_and_its_failure_told() {
    let known = architectures();
    let of_backend = known.iter().find(|known| known.concurrent).unwrap();
    let backend = Server::start(of_backend, HTTP);
    let address = backend.address.to_string();
    on_every_architecture(&["--protocol", "http", "--backend", &address], |server| {
        let request = b"GET /backend/10 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let reply = exchange(server, request);
        assert!(reply.starts_with("HTTP/1.1 200 "), "{}: {reply}", server.architecture.name);
    });
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    on_every_architecture(&["--protocol", "http", "--backend", &free.to_string()], |server| {
        let request = b"GET /backend/10 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let reply = exchange(server, request);
        assert!(reply.starts_with("HTTP/1.1 502 "), "{}: {reply}", server.architecture.name);
    });
    backend.leave();
}

#[test]
fn echo_gives_back_what_it_gets_also_to_netcat() {
    on_every_architecture(&["--protocol", "echo"], |server| {
        let bytes = pattern(1_000_000);
        let mut client = server.connect();
        let mut sender = client.try_clone().unwrap();
        let sent = bytes.clone();
        let sending = thread::spawn(move || sender.write_all(&sent).unwrap());
        let mut back = vec![0; bytes.len()];
        client.read_exact(&mut back).unwrap();
        sending.join().unwrap();
        assert!(back == bytes, "{}", server.architecture.name);
        drop(client);

        let Some(mut netcat) = installed("nc") else { return };
        let port = server.port().to_string();
        netcat.args(["-N", "127.0.0.1", &port]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut netcat = netcat.spawn().unwrap();
        netcat.stdin.take().unwrap().write_all(b"hello\n").unwrap();
        assert_eq!(netcat.wait_with_output().unwrap().stdout, b"hello\n");
    });
}
