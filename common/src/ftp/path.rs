//! What a client calls a file: a path as bytes, absolute in a tree whose root is the served folder.
//!
//! **Invariant:** a [`VirtualPath`] has no `.`, no `..`, no empty component and no NUL, so that it
//! names something beneath the folder even before the executor resolves it there.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The components, joined by slashes, with no slash around them. The folder itself is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VirtualPath(Vec<u8>);

impl VirtualPath {
    /// What `argument` means to a client that is in this folder. `..` goes up by name, also out
    /// of a symbolic link, and stays at the root.
    pub(super) fn resolve(&self, argument: &[u8]) -> Self {
        let absolute = argument.first() == Some(&b'/');
        let mut path = if absolute { VirtualPath::default() } else { self.clone() };
        for component in argument.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => path.up(),
                name => path.down(name),
            }
        }
        path
    }

    /// A path for a [`Job`](crate::job::Job).
    pub(super) fn beneath_root(&self) -> PathBuf {
        if self.is_root() { PathBuf::from(".") } else { OsString::from_vec(self.0.clone()).into() }
    }

    /// The absolute path, as clients see it.
    pub(super) fn absolute(&self) -> Vec<u8> {
        [b"/", self.0.as_slice()].concat()
    }

    /// Another name in the same folder.
    pub(super) fn beside(&self, name: &[u8]) -> Self {
        let mut path = self.clone();
        path.up();
        path.down(name);
        path
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any of its components is such a name.
    pub(super) fn has(&self, is_such: fn(&[u8]) -> bool) -> bool {
        self.0.split(|&byte| byte == b'/').any(is_such)
    }

    fn up(&mut self) {
        let slash = self.0.iter().rposition(|&byte| byte == b'/');
        self.0.truncate(slash.unwrap_or(0));
    }

    fn down(&mut self, name: &[u8]) {
        if !self.is_root() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(folder: &[u8], argument: &[u8], expected: &[u8]) {
        let folder = VirtualPath::default().resolve(folder);
        assert_eq!(folder.resolve(argument).absolute(), expected);
    }

    #[test]
    fn a_path_is_relative_unless_it_begins_with_a_slash() {
        check(b"/a/b", b"c", b"/a/b/c");
        check(b"/a/b", b"/c", b"/c");
        check(b"/a/b", b"", b"/a/b");
        check(b"/", b"./c//d/", b"/c/d");
        check(b"/", b"\xff\xfe\"", b"/\xff\xfe\"");
    }

    #[test]
    fn nothing_is_above_the_root() {
        check(b"/a/b", b"../c", b"/a/c");
        check(b"/a", b"../../../etc/passwd", b"/etc/passwd");
        check(b"/", b"..", b"/");
        check(b"/a", b"/..", b"/");
        assert_eq!(VirtualPath::default().beneath_root(), PathBuf::from("."));
    }

    #[test]
    fn a_name_beside_is_in_the_same_folder() {
        let path = VirtualPath::default().resolve(b"/a/b");
        assert_eq!(path.beside(b"c").absolute(), b"/a/c");
        let path = VirtualPath::default().resolve(b"/b");
        assert_eq!(path.beside(b"c").absolute(), b"/c");
    }
}
