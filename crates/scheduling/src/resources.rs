//! What nodes have and tasks want: three kinds of resources, as integers.

use base::{DecodeError, Reader, Writer};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An amount of each kind of resource.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a processor.
    pub cpu_milli: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of disk.
    pub disk_bytes: u64,
}

/// A kind of resource.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Processors.
    Cpu,
    /// Memory.
    Memory,
    /// Disk.
    Disk,
}

impl Kind {
    /// Every kind, in the order of [`Resources::amounts`].
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Disk];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }

    /// An amount of this kind, as people read it.
    pub fn show(self, amount: u64) -> String {
        match self {
            Self::Cpu => format!("{amount}m"),
            Self::Memory | Self::Disk => bytes(amount),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A share of a whole: an exact fraction, so that shares are compared without rounding.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Share {
    /// The part.
    pub part: u64,
    /// The whole; never 0.
    pub whole: u64,
}

impl Share {
    /// Nothing of anything.
    pub const NONE: Self = Self { part: 0, whole: 1 };

    /// `part` of `whole`. Of nothing, any part is taken for all there is, and none for none.
    pub fn of(part: u64, whole: u64) -> Self {
        match (part, whole) {
            (0, _) => Self::NONE,
            (_, 0) => Self { part: 1, whole: 1 },
            _ => Self { part, whole },
        }
    }

    /// Thousandths, rounded down. More than 1,000 when the part is more than the whole.
    pub fn per_mille(self) -> u64 {
        let value = u128::from(self.part) * 1000 / u128::from(self.whole);
        u64::try_from(value).unwrap_or(u64::MAX)
    }

    /// For people and for floating-point statistics.
    pub fn as_f64(self) -> f64 {
        self.part as f64 / self.whole as f64
    }
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let left = u128::from(self.part) * u128::from(other.whole);
        let right = u128::from(other.part) * u128::from(self.whole);
        left.cmp(&right)
    }
}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Share {}

impl Resources {
    /// Nothing.
    pub const NONE: Self = Self::new(0, 0, 0);

    /// Thousandths of a processor, bytes of memory, bytes of disk.
    pub const fn new(cpu_milli: u64, memory_bytes: u64, disk_bytes: u64) -> Self {
        Self {
            cpu_milli,
            memory_bytes,
            disk_bytes,
        }
    }

    /// The amounts, in the order of [`Kind::ALL`].
    pub const fn amounts(self) -> [u64; 3] {
        [self.cpu_milli, self.memory_bytes, self.disk_bytes]
    }

    const fn from_amounts([cpu_milli, memory_bytes, disk_bytes]: [u64; 3]) -> Self {
        Self::new(cpu_milli, memory_bytes, disk_bytes)
    }

    /// The amount of one kind.
    pub const fn get(self, kind: Kind) -> u64 {
        self.amounts()[kind as usize]
    }

    fn each(self, other: Self, f: impl Fn(u64, u64) -> Option<u64>) -> Option<Self> {
        let (a, b) = (self.amounts(), other.amounts());
        Some(Self::from_amounts([
            f(a[0], b[0])?,
            f(a[1], b[1])?,
            f(a[2], b[2])?,
        ]))
    }

    /// The sum; `None` when a kind would exceed 64 bits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.each(other, u64::checked_add)
    }

    /// The difference; `None` when a kind would be less than nothing.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.each(other, u64::checked_sub)
    }

    /// So many times; `None` when a kind would exceed 64 bits.
    pub fn checked_mul(self, times: u64) -> Option<Self> {
        self.each(Self::NONE, |amount, _| amount.checked_mul(times))
    }

    /// The sum, each kind at most the greatest number.
    pub fn saturating_add(self, other: Self) -> Self {
        self.each(other, |a, b| Some(a.saturating_add(b)))
            .unwrap_or(self)
    }

    /// The difference, each kind at least 0.
    pub fn saturating_sub(self, other: Self) -> Self {
        self.each(other, |a, b| Some(a.saturating_sub(b)))
            .unwrap_or(self)
    }

    /// True when `self` is no more than `room` in any kind.
    pub fn fits(self, room: Self) -> bool {
        self.lacking(room).is_none()
    }

    /// The first kind of which `self` is more than `room`.
    pub fn lacking(self, room: Self) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|&kind| self.get(kind) > room.get(kind))
    }

    /// True when there is nothing of any kind.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The kind of which `self` is the greatest share of `total`, and that share.
    pub fn dominant(self, total: Self) -> (Kind, Share) {
        let mut found = (Kind::Cpu, Share::of(self.cpu_milli, total.cpu_milli));
        for kind in [Kind::Memory, Kind::Disk] {
            let share = Share::of(self.get(kind), total.get(kind));
            if share > found.1 {
                found = (kind, share);
            }
        }
        found
    }

    /// The greatest share of `total` (Ghodsi et al.: "Dominant Resource Fairness", NSDI 2011, section 3).
    pub fn dominant_share(self, total: Self) -> Share {
        self.dominant(total).1
    }

    /// Thousandths of `total`, the mean of the kinds that there are, each at most 1,000.
    pub fn mean_per_mille(self, total: Self) -> u64 {
        let (mut sum, mut kinds) = (0u64, 0);
        for (part, whole) in self.amounts().into_iter().zip(total.amounts()) {
            if whole > 0 {
                sum += Share::of(part, whole).per_mille().min(1000);
                kinds += 1;
            }
        }
        sum.checked_div(kinds).unwrap_or(0)
    }

    /// Appends the byte form: three 64-bit numbers.
    pub fn encode(self, out: &mut Writer) {
        for amount in self.amounts() {
            out.u64(amount);
        }
    }

    /// Reads the byte form.
    ///
    /// # Errors
    /// When the bytes end early.
    pub fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::new(input.u64()?, input.u64()?, input.u64()?))
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = Kind::ALL.map(|kind| format!("{kind} {}", kind.show(self.get(kind))));
        f.write_str(&kinds.join(", "))
    }
}

fn bytes(amount: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if amount >= 1 << shift {
            let tenths = (u128::from(amount) * 10) >> shift;
            return match tenths % 10 {
                0 => format!("{} {unit}", tenths / 10),
                tenth => format!("{}.{tenth} {unit}", tenths / 10),
            };
        }
    }
    format!("{amount} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_differences_are_checked_in_each_kind() {
        let (a, b) = (Resources::new(3, 2, 1), Resources::new(1, 2, 3));
        assert_eq!(a.checked_add(b), Some(Resources::new(4, 4, 4)));
        assert_eq!(a.checked_sub(b), None);
        assert_eq!(a.saturating_sub(b), Resources::new(2, 0, 0));
        assert_eq!(Resources::new(u64::MAX, 0, 0).checked_add(a), None);
        assert_eq!(Resources::new(u64::MAX, 0, 0).checked_mul(2), None);
        assert_eq!(a.checked_mul(2), Some(Resources::new(6, 4, 2)));
        assert_eq!(a.lacking(b), Some(Kind::Cpu));
        assert!(Resources::NONE.fits(Resources::NONE));
    }

    #[test]
    fn dominant_share_is_exact_and_of_nothing_everything() {
        let total = Resources::new(18, 36, 0);
        assert_eq!(
            Resources::new(2, 8, 0).dominant(total),
            (Kind::Memory, Share::of(2, 9))
        );
        assert_eq!(
            Resources::new(6, 2, 0).dominant(total),
            (Kind::Cpu, Share::of(1, 3))
        );
        assert_eq!(
            Resources::new(0, 0, 1).dominant(total),
            (Kind::Disk, Share::of(1, 1))
        );
        assert_eq!(Share::of(u64::MAX, 1).per_mille(), u64::MAX);
    }

    #[test]
    fn byte_form_comes_back() {
        let amount = Resources::new(1, u64::MAX, 3);
        let mut out = Writer::new();
        amount.encode(&mut out);
        let bytes = out.into_vec();
        assert_eq!(Resources::decode(&mut Reader::new(&bytes)).unwrap(), amount);
        assert!(Resources::decode(&mut Reader::new(&bytes[1..])).is_err());
    }

    #[test]
    fn amounts_are_shown_with_units() {
        let amount = Resources::new(1500, 3 << 29, 12);
        assert_eq!(amount.to_string(), "cpu 1500m, memory 1.5 GiB, disk 12 B");
    }
}
