//! Knowing our own Herdsman by its certificate.

use herdsman_api::Ssl;
use herdsman_node::Trust;

/// Trusts the certificate that our own configuration makes the API show.
///
/// # Errors
/// What is wrong with the certificate.
pub(crate) fn of_config(ssl: &Ssl) -> Result<Trust, String> {
    ssl.certificates().map(Trust::of_certificates).map_err(|error| error.to_string())
}
