//! What keeps a node, packed into one number as ZooKeeper does: 0 for persistent nodes, a session's id
//! (positive) for ephemeral ones, the least number for containers, and 0xff in the high byte with the
//! time-to-live in the low five for TTL nodes.

/// The owner mark of containers.
pub const CONTAINER: i64 = i64::MIN;
const TTL_MARK: i64 = 0xff << 56;
/// Largest time-to-live in milliseconds, about 34 years.
pub const TTL_MS_MAX: i64 = (1 << 40) - 1;

/// What keeps a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeKind {
    /// Stays until deleted.
    Persistent,
    /// Goes with this session.
    Ephemeral(i64),
    /// Removed some time after its last child is.
    Container,
    /// Removed when childless and not modified for so many milliseconds.
    Ttl(i64),
}

impl NodeKind {
    pub(crate) fn of_owner(owner: i64) -> Self {
        match owner {
            0 => Self::Persistent,
            CONTAINER => Self::Container,
            1.. => Self::Ephemeral(owner),
            _ => Self::Ttl(owner & TTL_MS_MAX),
        }
    }

    pub(crate) fn owner(self) -> i64 {
        match self {
            Self::Persistent => 0,
            Self::Ephemeral(session) => session,
            Self::Container => CONTAINER,
            Self::Ttl(ms) => TTL_MARK | ms,
        }
    }

    /// True for a mark that [`Self::owner`] can yield.
    pub(crate) fn is_owner(owner: i64) -> bool {
        Self::of_owner(owner).owner() == owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_zookeepers_and_are_read_back() {
        assert_eq!(NodeKind::Ttl(5).owner(), 0xff00_0000_0000_0005_u64 as i64);
        for kind in [
            NodeKind::Persistent,
            NodeKind::Ephemeral(1),
            NodeKind::Ephemeral(i64::MAX),
            NodeKind::Container,
            NodeKind::Ttl(1),
            NodeKind::Ttl(TTL_MS_MAX),
        ] {
            assert_eq!(NodeKind::of_owner(kind.owner()), kind);
        }
        assert!(!NodeKind::is_owner(-2 << 56));
    }
}
