//! Knowing our own Herdsman by its certificate, and being known by ours.

use herdsman_api::{ApiConfig, Ssl};
use herdsman_node::Trust;

/// Trusts the certificate that our own configuration makes the API show, and shows the one of `api.client`.
///
/// # Errors
/// What is wrong with one of the certificates.
pub(crate) fn of_config(ssl: &Ssl, api: &ApiConfig) -> Result<Trust, String> {
    let trust =
        ssl.certificates().map(Trust::of_certificates).map_err(|error| error.to_string())?;
    showing(trust, api)
}

/// Shows the certificate of `api.client`, where there is one.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn showing(trust: Trust, api: &ApiConfig) -> Result<Trust, String> {
    let Some(client) = &api.client else { return Ok(trust) };
    let shown = trust.showing(&client.cert, &client.key);
    shown.map_err(|problem| format!("`api.client`: {problem}"))
}
