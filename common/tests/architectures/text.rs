//! Files as text (TYPE A) over sockets: whole, and at flat memory.

use std::fs::File;
use std::io::{self, Write};
use std::thread;

use crate::support::{
    Dialogue, Server, established, eventually, names, on_every_architecture, read_to_end,
};

/// What a transfer of text may add to the largest size that a server has had: far less than the
/// text.
const GROWTH_KIB: u64 = 2048;

fn upload(server: &Server, client: &mut Dialogue, name: &str, bytes: &[u8]) {
    let mut data = client.passive(server);
    client.send(&format!("STOR {name}\r\n"));
    client.expect("150");
    data.write_all(bytes).unwrap();
    drop(data);
    client.expect("226");
}

fn download(server: &Server, client: &mut Dialogue, name: &str) -> Vec<u8> {
    let data = client.passive(server);
    client.send(&format!("RETR {name}\r\n"));
    client.expect("150");
    let bytes = read_to_end(data);
    client.expect("226");
    bytes
}

#[test]
fn text_goes_up_and_comes_down_whole_at_flat_memory() {
    let lines: Vec<String> = (0..400_000_u32).map(|line| "x".repeat(line as usize % 50)).collect();
    let (file, wire) = (lines.join("\n"), lines.join("\r\n"));
    on_every_architecture(&["--writable"], |server| {
        let mut client = Dialogue::login(server);
        client.send("TYPE A\r\n");
        client.expect("200");
        // All that is needed for the first time is needed here.
        upload(server, &mut client, "small", b"a\r\nb");
        assert_eq!(download(server, &mut client, "small"), b"a\r\nb");
        let before = server.largest_size_kib();
        upload(server, &mut client, "large", wire.as_bytes());
        assert!(server.stored("large") == file.as_bytes(), "{}", server.architecture.name);
        assert!(download(server, &mut client, "large") == wire.as_bytes());
        let growth = server.largest_size_kib().saturating_sub(before);
        assert!(growth <= GROWTH_KIB, "{} grows by {growth} KiB", server.architecture.name);
    });
}

/// More than any server sends while a test is patient.
const ENDLESS_BYTES: u64 = 1 << 40;

#[test]
fn a_fast_reader_of_text_keeps_nobody_waiting_and_can_say_abor() {
    on_every_architecture(&[], |server| {
        let file = File::create(server.root.path().join("endless")).unwrap();
        file.set_len(ENDLESS_BYTES).unwrap();
        let mut client = Dialogue::login(server);
        client.send("TYPE A\r\n");
        client.expect("200");
        let mut data = client.passive(server);
        client.send("RETR endless\r\n");
        client.expect("150");
        let reader = thread::spawn(move || io::copy(&mut data, &mut io::sink()));
        if server.architecture.concurrent {
            drop(Dialogue::login(server));
        }
        client.send("ABOR\r\n");
        client.expect("426");
        client.expect("226");
        let _ = reader.join().unwrap();
    });
}

/// As a client does that is killed, where its control connection happens to be closed first. The
/// server finds both ends at once.
#[test]
fn an_upload_whose_client_hangs_up_first_is_not_taken_for_a_whole_file() {
    for kind in ["TYPE I", "TYPE A"] {
        on_every_architecture(&["--writable"], |server| {
            for _ in 0..5 {
                let mut client = Dialogue::login(server);
                client.send(&format!("{kind}\r\n"));
                client.expect("200");
                let mut data = client.passive(server);
                client.send("STOR upload\r\n");
                client.expect("150");
                data.write_all(b"half a li").unwrap();
                server.while_stopped(|| {
                    drop(client);
                    eventually("its end has come", || (established(server) == 0).then_some(()));
                    drop(data);
                });
                let left = eventually("the upload is over", || {
                    let names = names(server.root.path());
                    (!names.iter().any(|name| name.starts_with('.'))).then_some(names)
                });
                assert!(left.is_empty(), "{} {kind}: {left:?}", server.architecture.name);
            }
        });
    }
}
