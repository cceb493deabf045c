//! The same request over and over. Requests that wait together leave in one write: the buffer
//! holds as many copies as may be in flight, so that nothing is copied or allocated.

use std::sync::Arc;

/// Copies are made up to this size; larger requests leave in several writes.
const BATCH_BYTES: usize = 64 * 1024;

#[derive(Clone, Debug)]
pub(crate) struct Requests {
    batch: Arc<[u8]>,
    unit: usize,
    /// Where in the first copy the next byte to send is.
    position: usize,
    owed: usize,
}

impl Requests {
    /// `request` must not be empty.
    pub(crate) fn new(request: &[u8], pipeline: usize) -> Self {
        let copies = (BATCH_BYTES / request.len()).clamp(1, pipeline);
        Self { batch: request.repeat(copies).into(), unit: request.len(), position: 0, owed: 0 }
    }

    pub(crate) fn reset(&mut self) {
        self.position = 0;
        self.owed = 0;
    }

    pub(crate) fn add(&mut self) {
        self.owed += self.unit;
    }

    pub(crate) fn output(&self) -> &[u8] {
        &self.batch[self.position..self.batch.len().min(self.position + self.owed)]
    }

    pub(crate) fn wrote(&mut self, count: usize) {
        self.owed -= count;
        self.position = (self.position + count) % self.unit;
    }

    /// The bytes of one request.
    pub(crate) fn unit(&self) -> &[u8] {
        &self.batch[..self.unit]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_wait_together_leave_together() {
        let mut requests = Requests::new(b"abc", 4);
        requests.add();
        requests.add();
        assert_eq!(requests.output(), b"abcabc");
    }

    #[test]
    fn writes_of_any_size_send_whole_requests() {
        for step in 1..10 {
            let mut requests = Requests::new(b"abc", 2);
            let mut sent = Vec::new();
            for _ in 0..5 {
                requests.add();
            }
            while !requests.output().is_empty() {
                let piece = requests.output().len().min(step);
                sent.extend_from_slice(&requests.output()[..piece]);
                requests.wrote(piece);
            }
            assert_eq!(sent, b"abcabcabcabcabc");
        }
    }
}
