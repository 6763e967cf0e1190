//! Golden scripts and seeded histories over a simulated disk.

mod histories;
mod lazy;
mod mutations;
mod scripts;
mod sim;
