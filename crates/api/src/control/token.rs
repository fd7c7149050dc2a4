//! Who may change something.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap};

use super::Problem;

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// It shows the token.
    Change,
    /// It shows none, or another.
    Look,
    /// There is no token to show.
    Closed,
}

impl Right {
    /// What a request with these headers may do.
    pub(super) fn of(headers: &HeaderMap, token: Option<&str>) -> Self {
        let Some(token) = token else { return Self::Closed };
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let (Some(shown), None) = (shown.next(), shown.next()) else { return Self::Look };
        let bearer = shown.as_bytes().split_at_checked(7);
        let shown = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
        // Neither the time it takes nor the length tells anything about the token.
        let same = |shown: &[u8]| {
            let (ours, theirs) = (digest(&SHA256, token.as_bytes()), digest(&SHA256, shown));
            verify_slices_are_equal(ours.as_ref(), theirs.as_ref()).is_ok()
        };
        match shown {
            Some((_, shown)) if same(shown) => Self::Change,
            _ => Self::Look,
        }
    }

    /// Goes on only with the right to change something.
    pub(super) fn require(self) -> Result<(), Problem> {
        match self {
            Self::Change => Ok(()),
            Self::Look => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "this takes the token of `mesh.control`: send `Authorization: Bearer TOKEN`",
            )),
            Self::Closed => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "no_token_configured",
                "nobody may change the mesh through the API: configure `mesh.control.token`, `token_file` or `token_env`, \
                 and restart",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        let with = |values: &[&str], token| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            Right::of(&headers, token)
        };
        let token = Some("s3cret-token");
        assert_eq!(with(&["Bearer s3cret-token"], token), Right::Change);
        assert_eq!(with(&["bearer s3cret-token"], token), Right::Change);
        for wrong in
            ["Bearer s3cret-toke", "Bearer s3cret-token2", "Basic s3cret-token", "Bearer ", "B", ""]
        {
            assert_eq!(with(&[wrong], token), Right::Look, "{wrong}");
        }
        assert_eq!(with(&[], token), Right::Look);
        assert_eq!(with(&["Bearer s3cret-token", "Bearer x"], token), Right::Look);
        assert_eq!(with(&["Bearer "], None), Right::Closed);
    }
}
