//! Ports for data connections, where the user has said which.

use std::net::TcpListener;

use crate::support::{Dialogue, eventually, on_every_architecture, read_to_end};

/// So many free ports in a row, below those that the kernel gives away by itself. Different tests,
/// and different runs of the suite, look for them in different places.
fn free_ports(count: u16) -> u16 {
    let start = 8000 * count + (std::process::id() % 500) as u16 * 10;
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut starts = (start..start + 2000).step_by(usize::from(count));
    starts.find(|&low| (low..low + count).all(free)).expect("some ports are free")
}

#[test]
fn a_port_belongs_to_one_session_until_its_transfer_is_over() {
    let port = free_ports(1);
    let range = format!("{port}-{port}");
    on_every_architecture(&["--passive-ports", &range], |server| {
        let granted = format!("229 Entering extended passive mode (|||{port}|)");
        let content = server.file("file", 100_000);
        let mut first = Dialogue::login(server);
        first.passive(server);
        let data = first.passive(server);
        let mut second = server.architecture.concurrent.then(|| Dialogue::login(server));
        if let Some(second) = &mut second {
            second.send("EPSV\r\nPASV\r\n");
            second.expect("425");
            second.expect("425");
        }
        first.send("RETR file\r\n");
        first.expect("150");
        assert!(read_to_end(data) == content);
        first.expect("226");
        // We have closed that connection first, so that the kernel still remembers its port.
        let next = second.as_mut().unwrap_or(&mut first);
        next.send("EPSV\r\n");
        next.expect(&granted);
        drop((first, second));
        eventually("a vanished client's port is free", || {
            let mut third = Dialogue::login(server);
            third.send("EPSV\r\n");
            third.line().starts_with(&granted).then_some(())
        });
    });
}

#[test]
fn all_ports_are_tried_before_a_client_is_refused() {
    let low = free_ports(3);
    let range = format!("{low}-{}", low + 2);
    let arguments = ["--passive-ports", &range, "--passive-address", "192.0.2.9"];
    on_every_architecture(&arguments, |server| {
        if !server.architecture.concurrent {
            return;
        }
        let mut clients: Vec<Dialogue> = (0..4).map(|_| Dialogue::login(server)).collect();
        let (last, others) = clients.split_last_mut().unwrap();
        let mut ports: Vec<u16> = Vec::new();
        for client in others {
            client.send("PASV\r\n");
            let line = client.expect("227 Entering passive mode (192,0,2,9,");
            let numbers = line.trim_end().trim_end_matches(')').rsplit(',');
            let bytes: Vec<u8> = numbers.take(2).map(|number| number.parse().unwrap()).collect();
            ports.push(u16::from_be_bytes([bytes[1], bytes[0]]));
        }
        ports.sort_unstable();
        assert_eq!(ports, [low, low + 1, low + 2], "{}", server.architecture.name);
        last.send("PASV\r\n");
        last.expect("425");
    });
}
