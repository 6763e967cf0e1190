//! Concurrency: at most so many at a time. Also the bulkhead around a server: a semaphore that never blocks.
//!
//! Idea: a place is taken or refused at once, so that a server that hangs holds its own places and nobody else's. No
//! threads are set aside for it; places of a single-threaded gateway need none. Cost: one comparison.

/// Places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Concurrency {
    max: u32,
    taken: u32,
}

impl Concurrency {
    /// `max` places, all free.
    pub fn new(max: u32) -> Self {
        Self { max, taken: 0 }
    }

    /// Takes a place if one is free; it is to be given back with [`Self::release`].
    #[must_use]
    pub fn acquire(&mut self) -> bool {
        let is_free = self.taken < self.max;
        self.taken += u32::from(is_free);
        is_free
    }

    /// Gives a place back.
    pub fn release(&mut self) {
        debug_assert!(self.taken > 0, "a place is given back that was not taken");
        self.taken = self.taken.saturating_sub(1);
    }

    /// Places taken.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// Places.
    pub fn max(&self) -> u32 {
        self.max
    }

    /// Sets the number of places; those taken stay taken.
    pub fn resize(&mut self, max: u32) {
        self.max = max;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_run_out_and_come_back() {
        let mut places = Concurrency::new(2);
        assert!(places.acquire() && places.acquire() && !places.acquire());
        places.release();
        assert!(places.acquire() && !places.acquire());
        places.resize(1);
        places.release();
        assert!(!places.acquire(), "one is taken still");
        assert_eq!((places.taken(), places.max()), (1, 1));
    }
}
