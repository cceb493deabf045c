//! Patterns of names: clients leave it to the server to find what `mget *.txt` means, and send NLST
//! with the pattern.
//!
//! **Invariant:** matching takes time in proportion to the product of both lengths at most.

/// Whether a name has something of a pattern.
pub(super) fn is_pattern(name: &[u8]) -> bool {
    name.iter().any(|byte| matches!(byte, b'*' | b'?'))
}

/// Whether a name matches: `*` stands for any bytes, `?` for one, and a leading dot for itself
/// alone.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut at, mut from) = (0, 0);
    // Where to go on if what follows the last asterisk does not fit.
    let mut retry = None;
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                retry = Some((at, from + 1));
            }
            Some(&byte) if byte == b'?' || byte == name[from] => {
                at += 1;
                from += 1;
            }
            _ => match retry {
                Some((after, next)) => {
                    at = after;
                    from = next;
                    retry = Some((after, next + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: &str, expected: bool) {
        assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
    }

    #[test]
    fn an_asterisk_is_any_bytes_and_a_question_mark_is_one() {
        check("*", "", true);
        check("*", "abc", true);
        check("a*c", "abbc", true);
        check("a*c", "abcd", false);
        check("*ab*ab", "abcabcab", true);
        check("?b?", "abc", true);
        check("?", "", false);
        check("a", "a", true);
        check("a", "ab", false);
    }

    #[test]
    fn a_hidden_name_has_to_be_asked_for() {
        check("*", ".a", false);
        check(".*", ".a", true);
    }
}
