//! Files as text, under TYPE A.

use common::session::{Chan, Event, Session};
use proptest::prelude::*;

use crate::world::*;

fn under_type_a() -> World {
    let mut world = World::logged_in();
    world.tell("TYPE A\r\n");
    world.said.clear();
    world
}

#[test]
fn a_file_is_sent_with_crlf_and_stored_with_lf() {
    let mut world = under_type_a().file("a", b"one\ntwo\r\nthree\r\n\rfour");
    assert_eq!(world.fetch("RETR a"), b"one\r\ntwo\r\nthree\r\n\rfour");
    world.send(b"one\r\ntwo\nthree\r\r\n\rfour\r", "STOR b");
    assert_eq!(world.content("b"), b"one\ntwo\nthree\r\n\rfour\r");
    world.send(b"\nfive\r\n", "APPE b");
    assert_eq!(world.content("b"), b"one\ntwo\nthree\r\n\rfour\r\nfive\n");
    world.send(b"six\r\n", "STOU");
    assert_eq!(world.codes(), "229 150 226 229 150 226 229 150 226 229 150 226");
    let unique = world.names().into_iter().find(|name| name.starts_with("upload")).unwrap();
    assert_eq!(world.content(&unique), b"six\n");
}

#[test]
fn an_empty_file_is_empty_text() {
    let mut world = under_type_a().file("a", b"");
    assert_eq!(world.fetch("RETR a"), b"");
    world.send(b"", "STOR b");
    assert_eq!(world.codes(), "229 150 226 229 150 226");
    assert_eq!(world.content("b"), b"");
}

/// A piece of a file, of an upload and of what the network takes end at different places.
#[test]
fn line_ends_are_found_across_pieces() {
    for length in [PIECE_BYTES - 1, PIECE_BYTES, 32 * 1024 - 1, 32 * 1024, 100_000] {
        let text = [&b"x".repeat(length), &b"\n\r"[..], &b"\n".repeat(3 * PIECE_BYTES)].concat();
        let mut world = under_type_a().file("a", &text);
        let wire = world.fetch("RETR a");
        assert_eq!(wire.len(), length + 2 * 3 * PIECE_BYTES + 2);
        world.send(&wire, "STOR b");
        let expected = [&b"x".repeat(length)[..], &b"\n".repeat(3 * PIECE_BYTES + 1)].concat();
        assert!(world.content("b") == expected, "{length}");
        let cr = [&b"x".repeat(length)[..], b"\r"].concat();
        world.send(&cr, "STOR c");
        assert!(world.content("c") == cr, "{length}");
    }
}

#[test]
fn type_i_takes_files_as_they_are() {
    let mut world = World::logged_in().file("a", b"one\ntwo\r\n");
    assert_eq!(world.fetch("RETR a"), b"one\ntwo\r\n");
    world.send(b"one\r\n", "STOR b");
    assert_eq!(world.content("b"), b"one\r\n");
}

#[test]
fn abor_and_stat_find_a_transfer_of_text() {
    let text = b"line\n".repeat(40_000);
    let mut world = under_type_a().file("a", &text);
    world.data_actions = 3;
    assert_eq!(world.tell("EPSV\r\nRETR a\r\nSTAT\r\n"), Stop::Data);
    assert!(world.heard().contains(" bytes so far."));
    world.data_actions = 3;
    world.run();
    world.tell("ABOR\r\n");
    assert_eq!(world.codes(), "426 226");

    world.data_actions = 3;
    world.send(&text, "STOR b");
    assert_eq!(world.tell("STAT\r\n"), Stop::Data);
    assert!(world.heard().contains(" 2000 bytes so far."));
    world.tell("ABOR\r\n");
    assert_eq!((world.codes().as_str(), world.names()), ("426 226", vec!["a".to_owned()]));
}

#[test]
fn a_client_that_vanishes_leaves_no_half_text() {
    for data_actions in 0..5 {
        let mut world = under_type_a().file("a", b"old");
        world.data_actions = data_actions;
        world.send(&b"new\r\n".repeat(1000), "STOR a");
        assert_eq!(world.tell(""), Stop::End);
        assert_eq!((world.names(), world.content("a")), (vec!["a".to_owned()], b"old".to_vec()));
    }
}

#[test]
fn text_that_cannot_be_written_is_no_success() {
    for (kind, code) in [
        (std::io::ErrorKind::StorageFull, "452"),
        (std::io::ErrorKind::FileTooLarge, "552"),
        (std::io::ErrorKind::Other, "451"),
    ] {
        let mut world = under_type_a();
        world.upload.extend(b"text\r\n");
        world.data_actions = 1;
        assert_eq!(world.tell("EPSV\r\nSTOR a\r\n"), Stop::Data);
        world.session.handle(Event::Read(Chan::Data, b"text\r\n"));
        world.failure = Some(kind);
        world.run();
        assert_eq!(world.codes(), format!("229 150 {code}"), "{kind:?}");
        assert!(world.names().is_empty(), "{kind:?}");
    }
}

#[test]
fn a_text_that_shrinks_meanwhile_is_451() {
    let mut world = under_type_a().file("a", &b"line\n".repeat(40_000));
    world.data_actions = 2;
    world.tell("EPSV\r\nRETR a\r\n");
    std::fs::write(world.folder.path().join("a"), b"short").unwrap();
    world.data_actions = usize::MAX;
    world.run();
    assert_eq!(world.codes(), "229 150 451");
    world.tell("NOOP\r\n");
    assert_eq!(world.codes(), "200");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn text_comes_back_as_it_was(
        lines in proptest::collection::vec("[^\r\n]{0,300}", 0..200)
    ) {
        let text = lines.join("\n").into_bytes();
        let mut world = under_type_a().file("a", &text);
        let wire = world.fetch("RETR a");
        prop_assert_eq!(&wire, &lines.join("\r\n").into_bytes());
        world.send(&wire, "STOR b");
        prop_assert_eq!(world.content("b"), text);
    }
}
