//! At the end, after a sync, every member shows the same tree.

use crate::history::History;

/// Objections: where replicas differ.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    let Some((first, reference)) = history.trees.first() else {
        return objections;
    };
    for (node, tree) in &history.trees[1..] {
        let paths = reference.keys().chain(tree.keys());
        let different = paths
            .clone()
            .find(|path| reference.get(*path) != tree.get(*path));
        if let Some(path) = different {
            objections.push(format!(
                "node{first} and node{node} differ in {path}: {:?} and {:?}",
                reference.get(path),
                tree.get(path)
            ));
        }
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::build::stat;
    use crate::history::Tree;

    fn tree(value: &str) -> Tree {
        [("/a".to_owned(), (value.to_owned(), stat(1, 0)))].into()
    }

    #[test]
    fn equal_trees_pass_and_different_ones_are_found() {
        let mut h = History {
            trees: vec![(0, tree("x")), (1, tree("x"))],
            ..History::default()
        };
        assert!(check(&h).is_empty());
        h.trees.push((2, tree("y")));
        h.trees.push((3, Tree::new()));
        assert_eq!(check(&h).len(), 2);
    }
}
