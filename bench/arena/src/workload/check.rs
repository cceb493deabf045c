//! What a workload may say: the limits that keep a run bounded, and which keys go together.

use loadgen::{FtpOperation, Plan, Protocol, Rate};

use super::{CONNECTIONS_MAX, LEVELS_MAX, Levels, Workload};

impl Workload {
    /// Says what is wrong with the classes beside the first.
    pub(super) fn check_beside(&self) -> Result<(), String> {
        for class in &self.beside {
            let refuse = |why: &str| Err(format!("class {}: {why}", class.name));
            if class.protocol != self.protocol {
                return refuse("expected the protocol of the workload, which the server speaks");
            }
            if class.tls != self.tls {
                return refuse("expected tls as it is of the workload, which the server speaks");
            }
            if class.stores() {
                return refuse("expected nothing that is stored: that is for the workload itself");
            }
            if class.connections > CONNECTIONS_MAX {
                return refuse("expected 1 to 20000 connections");
            }
        }
        if self.beside.is_empty() && self.script.is_none() {
            return Ok(());
        }
        let (class, beside) = (self.class(0), self.beside.clone());
        let plan = Plan { class, beside, ..Plan::default() };
        plan.check().map_err(|error| error.to_string())
    }

    /// The limits that keep a run bounded: the key at fault and what was expected of it.
    fn check_numbers(&self) -> Result<(), (&'static str, &'static str)> {
        let in_range = [
            ((1..=CONNECTIONS_MAX).contains(&self.connections), "connections", "1 to 20000"),
            (self.idle_connections <= CONNECTIONS_MAX, "idle_connections", "0 to 20000"),
            (self.pipeline >= 1 && self.pipeline <= 1024, "pipeline", "1 to 1024"),
            (self.requests_per_connection != Some(0), "requests_per_connection", "at least 1"),
            (self.backlog.is_none_or(|n| n <= 10_000_000), "backlog", "at most 10000000"),
            (self.think_ms.is_none_or(|n| n <= 600_000), "think_ms", "at most 600000"),
            (self.payload_bytes <= 1 << 31, "payload_bytes", "at most 2147483648"),
            (self.warm_up_ms <= 600_000, "warm_up_ms", "at most 600000"),
            (
                self.duration_ms >= 100 && self.duration_ms <= 600_000,
                "duration_ms",
                "100 to 600000",
            ),
            (self.full_ms.is_none_or(|n| (100..=600_000).contains(&n)), "full_ms", "100 to 600000"),
            (self.blocks >= 1 && self.blocks <= 100, "blocks", "1 to 100"),
            (self.workers.is_none_or(|n| (1..=4096).contains(&n)), "workers", "1 to 4096"),
            (self.file_bytes.is_none_or(|n| n <= 1 << 31), "file_bytes", "at most 2147483648"),
            (
                self.capacity.is_none_or(|bound| (0.01..=10_000.0).contains(&bound.p99_ms)),
                "capacity",
                "a p99_ms of 0.01 to 10000",
            ),
            (self.cores.is_none_or(|n| (1..=1024).contains(&n)), "cores", "1 to 1024"),
            (self.levels.as_ref().is_none_or(Levels::are_good), "levels", "1 to 32 good ones"),
        ];
        if let Some((_, key, expected)) = in_range.iter().find(|(good, _, _)| !good) {
            return Err((key, expected));
        }
        let of_the_other_loop = [
            (self.is_open() && self.think_ms.is_some(), "think_ms", "none beside a rate"),
            (self.is_open() && self.capacity.is_some(), "rate", "none beside capacity"),
            (
                self.think_ms.is_some() && self.capacity.is_some(),
                "think_ms",
                "none beside capacity",
            ),
            (!self.is_open() && self.arrivals.is_some(), "arrivals", "a rate beside it"),
            (!self.is_open() && self.backlog.is_some(), "backlog", "a rate beside it"),
        ];
        if let Some((_, key, expected)) = of_the_other_loop.iter().find(|(bad, _, _)| *bad) {
            return Err((key, expected));
        }
        Ok(())
    }

    /// Whether the keys go together: the one at fault and what was expected of it.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        self.check_numbers()?;
        if self.tls {
            self.check_secure()?;
        }
        match self.protocol {
            Protocol::Ftp | Protocol::Echo if self.posts() => {
                Err(("method", "none, only HTTP has one"))
            }
            Protocol::Http if self.posts() && self.payload_bytes == 0 => {
                Err(("payload_bytes", "at least 1 to post"))
            }
            Protocol::Http | Protocol::Echo if self.operation != FtpOperation::default() => {
                Err(("operation", "none, only FTP has one"))
            }
            _ if self.script.is_some() => self.check_script(),
            Protocol::Echo | Protocol::Http if self.payload_bytes > 1 << 20 => {
                Err(("payload_bytes", "at most 1048576 but for FTP"))
            }
            Protocol::Echo if !self.path.is_empty() => Err(("path", "none, echo has no paths")),
            Protocol::Echo if self.payload_bytes == 0 => {
                Err(("payload_bytes", "at least 1 for echo"))
            }
            Protocol::Ftp if self.stores() && self.payload_bytes == 0 => {
                Err(("payload_bytes", "at least 1 to store"))
            }
            Protocol::Http | Protocol::Ftp
                if !self.stores() && !self.posts() && self.payload_bytes > 0 =>
            {
                Err(("payload_bytes", "none, only an echo, a POST and what is stored have a size"))
            }
            Protocol::Ftp if self.pipeline > 1 => {
                Err(("pipeline", "1, FTP has one transfer at a time"))
            }
            Protocol::Ftp if !self.has_path() && !self.path.is_empty() => {
                Err(("path", "none, a login has no path"))
            }
            Protocol::Http if self.path.starts_with("/backend/") && !self.backend => {
                Err(("path", "backend = true beside /backend/"))
            }
            Protocol::Http | Protocol::Ftp if self.has_path() && !self.path.starts_with('/') => {
                Err(("path", "one that begins with /"))
            }
            Protocol::Ftp if self.floor && self.operation != FtpOperation::Login => {
                Err(("floor", "false, of FTP the floors know logins only"))
            }
            Protocol::Ftp if self.floor && self.idle_connections > 0 => {
                Err(("idle_connections", "0 beside floor = true, floors hold no sessions"))
            }
            _ if self.stores() && self.path.matches('/').count() != 1 => {
                Err(("path", "a file directly below the root"))
            }
            _ if self.file_bytes.is_some() && (self.stores() || !self.has_path()) => {
                Err(("file_bytes", "none, nothing is retrieved"))
            }
            _ if self.file_bytes.is_some() && self.path.matches('/').count() != 1 => {
                Err(("path", "a file directly below the root, as file_bytes makes it"))
            }
            _ if self.file_bytes.is_some() && self.expected_bytes != self.file_bytes => {
                Err(("expected_bytes", "the same as file_bytes"))
            }
            _ => Ok(()),
        }
    }

    /// What goes with TLS.
    fn check_secure(&self) -> Result<(), (&'static str, &'static str)> {
        match self.protocol {
            Protocol::Ftp => Err(("tls", "false, it is for HTTP and echo")),
            _ if self.idle_connections > 0 => {
                Err(("idle_connections", "0 within TLS, they would make no handshake"))
            }
            _ if self.floor => Err(("floor", "false, the floors know no TLS")),
            _ => Ok(()),
        }
    }

    /// What a script leaves to be said.
    fn check_script(&self) -> Result<(), (&'static str, &'static str)> {
        let is_default = self.operation == FtpOperation::default();
        let file_is_below_the_root = self.path.matches('/').count() == 1;
        match self.file_bytes {
            _ if !is_default => Err(("operation", "none, a script says what is done")),
            _ if self.payload_bytes > 0 => {
                Err(("payload_bytes", "none, a script says what is stored"))
            }
            None if !self.path.is_empty() => {
                Err(("path", "none but that of file_bytes, a script says what is asked for"))
            }
            Some(_) if !file_is_below_the_root => {
                Err(("path", "a file directly below the root, as file_bytes makes it"))
            }
            _ => Ok(()),
        }
    }
}

impl Levels {
    fn are_good(&self) -> bool {
        let (number, good) = match self {
            Self::Rate(rates) => {
                (rates.len(), rates.iter().all(Rate::is_constant) && are_distinct(rates))
            }
            Self::Cores(cores) => {
                let possible = cores.iter().all(|n| (1..=1024).contains(n));
                (cores.len(), possible && are_distinct(cores))
            }
            Self::Connections(all) => {
                let possible = all.iter().all(|n| (1..=CONNECTIONS_MAX).contains(n));
                (all.len(), possible && are_distinct(all))
            }
        };
        good && (1..=LEVELS_MAX).contains(&number)
    }
}

/// Each level is a workload of its own name.
fn are_distinct<T: PartialEq>(levels: &[T]) -> bool {
    levels.iter().enumerate().all(|(index, level)| !levels[..index].contains(level))
}
