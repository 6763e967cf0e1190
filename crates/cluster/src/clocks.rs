//! Time among equals: how far wall clocks are apart ([`offset`], peers that find out), and clocks that
//! count events in place of time ([`logical`]).

pub mod logical;
pub mod offset;
