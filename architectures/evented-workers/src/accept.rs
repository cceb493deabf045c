//! How a connection comes to its reactor: the listening socket wakes it, or an acceptor passes the
//! connection on.

use std::io;
use std::sync::OnceLock;

use clap::ValueEnum;
use common::Server;

use crate::acceptor::Acceptor;
use crate::exclusive::watch_exclusively;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Accept {
    /// All watch one listening socket, and a connection wakes all
    Shared,
    /// All watch one listening socket, and a connection wakes one (EPOLLEXCLUSIVE)
    Exclusive,
    /// Each has a listening socket, chosen by a hash of the addresses (`SO_REUSEPORT`)
    Reuseport,
    /// An acceptor passes connections on to each in turn
    RoundRobin,
    /// An acceptor passes a connection on to whoever has the fewest
    Least,
}

pub(crate) type Sources = OnceLock<Vec<&'static Server>>;

impl Accept {
    /// Says what each of so many reactors takes connections from. What comes of it passes them on.
    pub(crate) fn sources(
        self,
        server: &'static Server,
        count: usize,
        said: &Sources,
    ) -> io::Result<Acceptor> {
        let (outboxes, sources) = match self {
            Accept::Shared | Accept::Exclusive => (Vec::new(), vec![server; count]),
            Accept::Reuseport => (Vec::new(), server.siblings(count)?),
            Accept::RoundRobin | Accept::Least => {
                let both = (0..count).map(|worker| server.inbox(worker));
                both.collect::<io::Result<_>>()?
            }
        };
        said.get_or_init(|| sources);
        Ok(Acceptor { server, outboxes, least: self == Accept::Least })
    }

    /// The reactor.
    pub(crate) fn serve(self, source: &Server) {
        let watch = if self == Accept::Exclusive { watch_exclusively } else { evented::watch };
        if let Err(error) = evented::run_with(source, watch, |job, _| Some(job.run())) {
            tracing::error!(%error, "a reactor cannot go on");
        }
    }
}
