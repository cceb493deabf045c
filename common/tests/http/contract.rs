//! Input in any pieces, and a failure at every action.

use common::conformance::{Client, Fault, Outcome};
use proptest::prelude::*;

use crate::world::*;

/// Everything that a session does, but for what takes time.
const SCRIPT: &str = "GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n\
    HEAD /large HTTP/1.1\r\nHost: a\r\n\r\n\
    GET /a%20b.txt HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\"\r\n\r\n\
    POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
    3;x\r\nabc\r\n0\r\nT: u\r\n\r\n\
    GET /bare/ HTTP/1.1\r\nHost: a\r\n\r\n\
    GET /digits.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1,8-\r\n\r\n\
    PUT /upload/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc\
    GET /large HTTP/1.1\r\nHost: a\r\nRange: bytes=5-70000,199999-\r\n\r\n\
    POST /plaintext HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET \
    GET /backend/1 HTTP/1.1\r\nHost: a\r\n\r\n\
    GET /stream/3/5 HTTP/1.1\r\nHost: a\r\n\r\n\
    OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n\
    GET /folder HTTP/1.1\r\nHost: a\r\n\r\n\
    GET /bytes/70000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn play(site: &Site, pieces: Vec<Vec<u8>>, write_bytes: usize) -> Outcome {
    let _ = std::fs::remove_file(site.path("upload/a"));
    let data = vec![b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK".to_vec()];
    site.play(&Client { control: pieces, data, write_bytes, eager: false }, None)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn requests_may_arrive_in_any_pieces(
        cuts in proptest::collection::btree_set(1..SCRIPT.len(), 0..60),
        write_bytes in 100..100_000_usize,
    ) {
        let mut pieces = Vec::new();
        let mut rest = SCRIPT.as_bytes();
        for cut in cuts.into_iter().rev() {
            let (before, after) = rest.split_at(cut);
            pieces.push(after.to_vec());
            rest = before;
        }
        pieces.push(rest.to_vec());
        pieces.reverse();
        let site = Site::new();
        let whole = play(&site, vec![SCRIPT.as_bytes().to_vec()], usize::MAX);
        prop_assert!(play(&site, pieces, write_bytes).control == whole.control);
    }

    #[test]
    fn rubbish_never_harms(input in proptest::collection::vec(any::<u8>(), 1..3000)) {
        play(&Site::new(), vec![input], usize::MAX);
    }
}

#[test]
fn a_failure_at_any_action_keeps_to_the_contract() {
    let site = Site::new();
    let client = Client {
        control: SCRIPT.as_bytes().chunks(50).map(<[u8]>::to_vec).collect(),
        ..Client::new(b"", b"HTTP/1.1 200 OK\r\n\r\nOK")
    };
    let steps = site.play(&client, None).steps;
    assert!(steps > 50, "{steps}");
    for (step, fault) in (0..steps).flat_map(|step| Fault::ALL.map(|fault| (step, fault))) {
        let _ = std::fs::remove_file(site.path("upload/a"));
        site.play(&client, Some((step, fault)));
    }
}
