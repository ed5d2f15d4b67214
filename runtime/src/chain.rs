//! An error and its causes as one line.

use std::error::Error;
use std::io;

/// `error: cause: cause of the cause`. What an error of a library repeats of its causes is said once.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = words(error);
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = words(cause);
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Errors of the kernel have the words of Go: engines search the text for `no such file or directory` and its like.
fn words(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let number = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::raw_os_error);
    let number = number.map(|number| format!(" (os error {number})"));
    let Some(plain) = number.and_then(|number| text.strip_suffix(&number)) else {
        return text;
    };
    let mut letters = plain.chars();
    let first = letters.next().into_iter().flat_map(char::to_lowercase);
    first.chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open it")]
    struct Outer(#[source] io::Error);

    #[test]
    fn causes_follow_in_the_words_of_go() {
        let of = |number| chain(&Outer(io::Error::from_raw_os_error(number)));
        assert_eq!(
            of(libc::ENOENT),
            "cannot open it: no such file or directory"
        );
        assert_eq!(of(libc::EACCES), "cannot open it: permission denied");
        let own = Outer(io::Error::other("Its own words"));
        assert_eq!(chain(&own), "cannot open it: Its own words");
    }
}
