//! The start-up packet and every way to prove who we are that PostgreSQL asks a password for.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use secrecy::ExposeSecret as _;

use super::scram::{Binding, Exchange};
use super::{Credential, Failure, RawConnection, ScramKeys, ServerMessage};
use crate::Conninfo;

const SCRAM: &str = "SCRAM-SHA-256";
const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Logs in, up to where the server is ready for a command.
pub(super) async fn login(
    connection: &mut RawConnection,
    info: &Conninfo,
    startup: &[(&str, &str)],
    credential: &Credential,
) -> Result<(), Failure> {
    let mut parameters = vec![
        ("user", info.user.as_str()),
        ("database", info.dbname.as_str()),
        ("application_name", info.application_name.as_str()),
        ("client_encoding", "UTF8"),
    ];
    if !info.options.is_empty() {
        parameters.push(("options", info.options.as_str()));
    }
    parameters.extend_from_slice(startup);
    let mut out = BytesMut::new();
    frontend::startup_message(parameters, &mut out)?;
    connection.send(&mut out).await?;
    authenticate(connection, info, credential)
        .await
        .map_err(|failure| explained(failure, credential))?;
    loop {
        match connection.message().await? {
            Message::ParameterStatus(status) => {
                let name = status.name().unwrap_or_default().to_owned();
                let value = status.value().unwrap_or_default().to_owned();
                connection.parameters.insert(name, value);
            }
            Message::BackendKeyData(key) => {
                connection.backend = Some((key.process_id(), key.secret_key()));
            }
            Message::ReadyForQuery(_) => return Ok(()),
            other => expected(other)?,
        }
    }
}

async fn authenticate(
    connection: &mut RawConnection,
    info: &Conninfo,
    credential: &Credential,
) -> Result<(), Failure> {
    let password = || match credential {
        Credential::None => info.password_text().ok_or_else(|| {
            Failure::Rejected("the server wants a password and none is given".to_owned())
        }),
        Credential::Password(password) => Ok(password.expose_secret()),
        Credential::Md5(_) => Err(unfit("an md5 verifier")),
        Credential::Scram(_) => Err(unfit("SCRAM keys")),
    };
    let mut out = BytesMut::new();
    loop {
        match connection.message().await? {
            Message::AuthenticationOk => return Ok(()),
            Message::AuthenticationCleartextPassword => {
                frontend::password_message(password()?.as_bytes(), &mut out)?;
                connection.send(&mut out).await?;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = match credential {
                    Credential::Md5(verifier) => md5_of(verifier.expose_secret(), body.salt()),
                    _ => md5_hash(info.user.as_bytes(), password()?.as_bytes(), body.salt()),
                };
                frontend::password_message(hash.as_bytes(), &mut out)?;
                connection.send(&mut out).await?;
            }
            Message::AuthenticationSasl(body) => match credential {
                Credential::Scram(keys) => scram_with_keys(connection, &body, keys).await?,
                _ => scram(connection, &body, password()?.as_bytes()).await?,
            },
            Message::AuthenticationGss
            | Message::AuthenticationSspi
            | Message::AuthenticationKerberosV5
            | Message::AuthenticationScmCredential => {
                let problem = "the server wants a login that is not by password or certificate";
                return Err(Failure::Rejected(problem.to_owned()));
            }
            other => expected(other)?,
        }
    }
}

/// The answer to an md5 challenge by one who has the verifier: the digest of its digits and the salt.
fn md5_of(verifier: &str, salt: [u8; 4]) -> String {
    let digits = verifier.strip_prefix("md5").unwrap_or(verifier);
    postgres_protocol::password::md5(&[digits.as_bytes(), &salt].concat(), "")
}

fn unfit(have: &str) -> Failure {
    Failure::Rejected(format!("the server wants another proof than {have}, all that is known"))
}

/// A wrong password may be right and its verifier another one, which nobody can tell from the server's words.
fn explained(failure: Failure, credential: &Credential) -> Failure {
    match (failure, credential) {
        (Failure::Server(mut said), Credential::Scram(_)) if said.code == "28P01" => {
            said.message.push_str(
                ", tried with SCRAM keys, which are right only where the verifier on this server is the one they are of",
            );
            Failure::Server(said)
        }
        (failure, _) => failure,
    }
}

/// Which mechanism to take of those offered.
fn mechanism(
    connection: &RawConnection,
    body: &AuthenticationSaslBody,
) -> Result<(&'static str, Binding), Failure> {
    let offered: Vec<String> = body.mechanisms().map(|name| Ok(name.to_owned())).collect()?;
    let offers = |name: &str| offered.iter().any(|offered| offered == name);
    match connection.stream.binding() {
        Some(hash) if offers(SCRAM_PLUS) => Ok((SCRAM_PLUS, Binding::EndPoint(hash))),
        Some(_) if offers(SCRAM) => Ok((SCRAM, Binding::NotOffered)),
        None if offers(SCRAM) => Ok((SCRAM, Binding::Impossible)),
        _ => {
            let problem =
                format!("the server offers no login that we have: {}", offered.join(", "));
            Err(Failure::Rejected(problem))
        }
    }
}

async fn scram(
    connection: &mut RawConnection,
    body: &AuthenticationSaslBody,
    password: &[u8],
) -> Result<(), Failure> {
    let (mechanism, binding) = mechanism(connection, body)?;
    let binding = match binding {
        Binding::EndPoint(hash) => ChannelBinding::tls_server_end_point(hash),
        Binding::NotOffered => ChannelBinding::unrequested(),
        Binding::Impossible => ChannelBinding::unsupported(),
    };
    let mut scram = ScramSha256::new(password, binding);
    let mut out = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut out)?;
    connection.send(&mut out).await?;
    loop {
        match connection.message().await? {
            Message::AuthenticationSaslContinue(body) => {
                scram.update(body.data())?;
                frontend::sasl_response(scram.message(), &mut out)?;
                connection.send(&mut out).await?;
            }
            Message::AuthenticationSaslFinal(body) => {
                // Proof that the server knows the password as well.
                return scram.finish(body.data()).map_err(|_| {
                    Failure::Rejected(
                        "the server could not prove that it knows the password".to_owned(),
                    )
                });
            }
            other => expected(other)?,
        }
    }
}

/// The same for one who has keys.
async fn scram_with_keys(
    connection: &mut RawConnection,
    body: &AuthenticationSaslBody,
    keys: &ScramKeys,
) -> Result<(), Failure> {
    let (mechanism, binding) = mechanism(connection, body)?;
    let rejected = |problem: &str| Failure::Rejected(problem.to_owned());
    let mut scram = Exchange::new(keys, binding)
        .ok_or_else(|| rejected("the system has no randomness for a login"))?;
    let mut out = BytesMut::new();
    frontend::sasl_initial_response(mechanism, &scram.first(), &mut out)?;
    connection.send(&mut out).await?;
    loop {
        match connection.message().await? {
            Message::AuthenticationSaslContinue(body) => {
                let proof = scram.answer(body.data()).map_err(rejected)?;
                frontend::sasl_response(&proof, &mut out)?;
                connection.send(&mut out).await?;
            }
            Message::AuthenticationSaslFinal(body) => {
                return scram.verify(body.data()).map_err(rejected);
            }
            other => expected(other)?,
        }
    }
}

/// What may come at any time is let pass.
fn expected(message: Message) -> Result<(), Failure> {
    match message {
        Message::ErrorResponse(body) => Err(Failure::Server(ServerMessage::read(&body))),
        Message::NoticeResponse(_) | Message::ParameterStatus(_) => Ok(()),
        _ => Err(Failure::Strange("the server says what cannot be said during a login".to_owned())),
    }
}
