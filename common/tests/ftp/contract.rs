//! Input in any pieces, and a failure at every action.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use common::conformance::{Client, Fault, Outcome, run};
use common::ftp;
use common::session::{Chan, Event};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::world::*;

/// Everything that a session does, but for what depends on when it arrives (ABOR, STAT).
const SCRIPT: &[u8] = b"FEAT\r\nUSER anonymous\r\nPASS x\r\nPWD\nMKD d\r\nCWD d\r\nTYPE I\r\n\
    EPSV\r\nSTOR a\r\nSIZE a\r\nPASV\r\nREST 2\r\nRETR a\r\nCWD a\0\r\n\xff\xf1NOOP\r\nRNFR a\r\n\
    RNTO \xff\xffb\r\nEPSV\r\nNLST\r\nCWD \xfe\"\r\nHELP\r\nDELE \xff\xffb\r\nCDUP\r\nRMD d\r\n\
    QUIT\r\n";

fn converse(pieces: &[&[u8]]) -> (Vec<u8>, Vec<u8>) {
    let mut world = World::new();
    world.upload.extend([b'u'; 2500]);
    let mut stop = Stop::Command;
    for piece in pieces {
        assert_eq!(stop, Stop::Command);
        stop = world.tell(piece);
    }
    assert_eq!(stop, Stop::End);
    assert!(world.names().is_empty());
    (world.said, world.downloaded)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn commands_may_arrive_in_any_pieces(
        cuts in proptest::collection::btree_set(1..SCRIPT.len(), 0..40)
    ) {
        let mut pieces = Vec::new();
        let mut rest = SCRIPT;
        for cut in cuts.into_iter().rev() {
            let (before, after) = rest.split_at(cut);
            pieces.push(after);
            rest = before;
        }
        pieces.push(rest);
        pieces.reverse();
        prop_assert_eq!(converse(&pieces), converse(&[SCRIPT]));
    }

    #[test]
    fn rubbish_never_harms(
        input in proptest::collection::vec(any::<u8>(), 1..3000)
    ) {
        let mut world = World::logged_in();
        world.tell(input);
        prop_assert_eq!(world.answer(Event::Read(Chan::Control, &[])), Stop::End);
    }
}

/// A conversation under the conformance kit, which holds the session to the contract; and what is
/// left in the served folder.
fn under_test(client: &Client, fault: Option<(usize, Fault)>) -> (Outcome, TempDir) {
    let World { folder, settings, .. } =
        World::new().file("old", b"old").file("big", &[b'b'; 2000]).file("lines", b"1\n2\r\n\n");
    let session = ftp::Session::new(&settings, "127.0.0.1".parse().unwrap());
    (run(Box::new(session), client, fault), folder)
}

const CONVERSATION: &[u8] = b"USER anonymous\r\nPASS x\r\nTYPE I\r\nEPSV\r\nRETR big\r\n\
    PORT 127,0,0,1,8,0\r\nSTOR old\r\nPASV\r\nNLST\r\nSTAT /\r\nEPSV\r\nAPPE new\r\nEPSV\r\n\
    EPRT |1|127.0.0.1|2048|\r\nTYPE A\r\nEPSV\r\nRETR lines\r\nEPSV\r\nSTOR old\r\nEPSV\r\n\
    APPE lines\r\nEPSV\r\nRETR lines\r\nRNFR new\r\nRNTO newer\r\nDELE newer\r\nMKD d\r\n\
    RMD d\r\nQUIT\r\n";

/// What the client uploads, and what that is as text.
const NEW: &[u8] = b"new\r\n\r\ncontent\r";
const NEW_TEXT: &[u8] = b"new\n\ncontent\r";

#[test]
fn every_chunking_gives_the_same_conversation() {
    let (expected, _folder) = under_test(&Client::new(CONVERSATION, NEW), None);
    for piece in [1, 2, 7, 100] {
        let client = Client {
            control: CONVERSATION.chunks(piece).map(<[u8]>::to_vec).collect(),
            data: NEW.chunks(piece).map(<[u8]>::to_vec).collect(),
            write_bytes: piece,
            eager: false,
        };
        let (outcome, folder) = under_test(&client, None);
        assert_eq!(outcome.data, expected.data);
        assert_eq!(fs::read(folder.path().join("old")).unwrap(), NEW_TEXT);
        let text = |outcome: &Outcome| String::from_utf8_lossy(&outcome.control).into_owned();
        assert_eq!(text(&outcome), text(&expected));
    }
}

#[test]
fn a_failure_at_any_action_leaves_no_half_upload() {
    let mut client = Client::new(CONVERSATION, NEW);
    client.control = CONVERSATION.chunks(50).map(<[u8]>::to_vec).collect();
    let steps = under_test(&client, None).0.steps;
    for (step, fault) in (0..steps).flat_map(|step| Fault::ALL.map(|fault| (step, fault))) {
        let (_, folder) = under_test(&client, Some((step, fault)));
        let old = fs::read(folder.path().join("old")).unwrap();
        assert!([b"old", NEW, NEW_TEXT].contains(&old.as_slice()), "{fault:?} at {step}");
        for entry in fs::read_dir(folder.path()).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(!name.as_bytes().starts_with(b"."), "{name:?}: {fault:?} at {step}");
        }
    }
}

#[test]
fn what_overtakes_a_transfer_keeps_to_the_contract() {
    let script =
        b"USER ftp\r\nPASS x\r\nEPSV\r\n|RETR big\r\n|STAT\r\n|STAT\r\n|ABOR\r\n|EPSV\r\n|\
        NLST\r\n|STAT\r\n|EPSV\r\n|STOR old\r\n|STAT\r\n|ABOR\r\n|QUIT\r\n";
    let client = Client {
        control: script.split(|&byte| byte == b'|').map(<[u8]>::to_vec).collect(),
        data: vec![b"new".to_vec()],
        write_bytes: 100,
        eager: true,
    };
    let (outcome, folder) = under_test(&client, None);
    assert_eq!(fs::read(folder.path().join("old")).unwrap(), b"old");
    let text = String::from_utf8_lossy(&outcome.control);
    assert!(text.ends_with("221 Goodbye.\r\n"), "{text}");
    for (step, fault) in (0..outcome.steps).flat_map(|step| Fault::ALL.map(|fault| (step, fault))) {
        under_test(&client, Some((step, fault)));
    }
}
