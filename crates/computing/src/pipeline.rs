//! Pipelines: stages that overlap, with room for so many items between two of them (the input pipelines of
//! Abadi et al.: "TensorFlow: a system for large-scale machine learning", OSDI 2016, section 3; Murray et al.:
//! "tf.data", VLDB 2021).
//!
//! While one item is in the second stage, the next is in the first: once all stages are busy, an item costs what
//! the slowest stage costs, not the sum. [`simulate`] says so in simulated time.

use base::Rng;

/// Mixes the order of items: of the last `size` that came, one is passed on at random. Cost O(1) an item, memory
/// `size` items; a larger one mixes better.
#[derive(Clone, Debug)]
pub struct Shuffle<T> {
    size: usize,
    held: Vec<T>,
    rng: Rng,
}

impl<T> Shuffle<T> {
    /// Holds `size` items, at least 1; the order follows from `seed`.
    pub fn new(size: usize, seed: u64) -> Self {
        Self {
            size: size.max(1),
            held: Vec::new(),
            rng: Rng::new(seed),
        }
    }

    /// Takes an item; gives one once it holds enough.
    pub fn push(&mut self, item: T) -> Option<T> {
        self.held.push(item);
        (self.held.len() >= self.size).then(|| self.draw())
    }

    /// When nothing comes any more: what is held, one after the other.
    pub fn drain(&mut self) -> Option<T> {
        (!self.held.is_empty()).then(|| self.draw())
    }

    fn draw(&mut self) -> T {
        let at = self.rng.range(0, self.held.len() as u64) as usize;
        self.held.swap_remove(at)
    }
}

/// Gathers items: `size` become one. The last batch may be smaller.
#[derive(Clone, Debug)]
pub struct Batch<T> {
    size: usize,
    held: Vec<T>,
}

impl<T> Batch<T> {
    /// Batches of `size`, at least 1.
    pub fn new(size: usize) -> Self {
        Self {
            size: size.max(1),
            held: Vec::new(),
        }
    }

    /// Takes an item; gives a batch once it is full.
    pub fn push(&mut self, item: T) -> Option<Vec<T>> {
        self.held.push(item);
        (self.held.len() >= self.size).then(|| std::mem::take(&mut self.held))
    }

    /// When nothing comes any more: what is held.
    pub fn drain(&mut self) -> Option<Vec<T>> {
        (!self.held.is_empty()).then(|| std::mem::take(&mut self.held))
    }
}

/// When each of `items` items leaves the last stage, if stage k takes `costs[k]` for each, and `prefetch` items
/// (at least 1) may wait between two stages. Times are in the units of the costs.
pub fn simulate(costs: &[u64], items: usize, prefetch: usize) -> Vec<u64> {
    let prefetch = prefetch.max(1);
    // When item i was taken up by, and left, each stage.
    let mut begun = vec![vec![0; items]; costs.len()];
    let mut left = vec![vec![0; items]; costs.len()];
    for item in 0..items {
        for stage in 0..costs.len() {
            let came = if stage == 0 { 0 } else { left[stage - 1][item] };
            let free = if item == 0 { 0 } else { left[stage][item - 1] };
            begun[stage][item] = came.max(free);
            let done = begun[stage][item] + costs[stage];
            // An item leaves when there is room behind: when the one `prefetch` before it was taken up.
            let room = match item.checked_sub(prefetch) {
                Some(before) if stage + 1 < costs.len() => begun[stage + 1][before],
                _ => 0,
            };
            left[stage][item] = done.max(room);
        }
    }
    left.pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m18_steady_state_costs_the_slowest_stage_not_the_sum() {
        for costs in [[3, 7, 2], [7, 3, 2], [1, 2, 9]] {
            let (sum, slowest) = (costs.iter().sum::<u64>(), *costs.iter().max().unwrap());
            let done = simulate(&costs, 100, 1);
            assert_eq!(done[0], sum);
            assert!(done.windows(2).all(|pair| pair[1] - pair[0] == slowest));
            assert_eq!(done[99], sum + 99 * slowest);
        }
    }

    #[test]
    fn one_stage_and_no_stage() {
        assert_eq!(simulate(&[4], 3, 1), [4, 8, 12]);
        assert!(simulate(&[], 3, 1).is_empty());
    }

    #[test]
    fn shuffle_loses_nothing_and_mixes_within_its_size() {
        let mut shuffle = Shuffle::new(10, 1);
        let mut out: Vec<usize> = (0..100).filter_map(|item| shuffle.push(item)).collect();
        assert_eq!(out.len(), 91);
        // What is passed on first is one of the first ten.
        assert!(out.iter().enumerate().all(|(at, item)| *item < at + 10));
        out.extend(std::iter::from_fn(|| shuffle.drain()));
        assert!(!out.is_sorted());
        out.sort_unstable();
        assert_eq!(out, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn batch_is_full_but_for_the_last() {
        let mut batch = Batch::new(3);
        let mut out: Vec<Vec<u8>> = (0..7).filter_map(|item| batch.push(item)).collect();
        out.extend(batch.drain());
        assert_eq!(out, [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
        assert_eq!(batch.drain(), None);
    }
}
