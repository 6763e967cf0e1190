//! What the commands mean, one file a data type: parse, meaning and reply together.

pub mod bits;
pub mod expiry;
pub mod hashes;
pub mod keys;
pub mod lcs;
pub mod lists;
pub mod scan;
pub mod sets;
pub mod sort;
pub mod sorted;
pub mod sorted_algebra;
pub mod sorted_range;
pub mod strings;
