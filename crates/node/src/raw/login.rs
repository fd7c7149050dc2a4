//! The start-up packet and every way to prove who we are that PostgreSQL asks a password for.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use super::{Failure, RawConnection, ServerMessage};
use crate::Conninfo;

const SCRAM: &str = "SCRAM-SHA-256";
const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Logs in, up to where the server is ready for a command.
pub(super) async fn login(
    connection: &mut RawConnection,
    info: &Conninfo,
    startup: &[(&str, &str)],
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
    authenticate(connection, info).await?;
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

async fn authenticate(connection: &mut RawConnection, info: &Conninfo) -> Result<(), Failure> {
    let password = || {
        info.password_text().ok_or_else(|| {
            Failure::Rejected("the server wants a password and none is given".to_owned())
        })
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
                let hash = md5_hash(info.user.as_bytes(), password()?.as_bytes(), body.salt());
                frontend::password_message(hash.as_bytes(), &mut out)?;
                connection.send(&mut out).await?;
            }
            Message::AuthenticationSasl(body) => {
                scram(connection, &body, password()?.as_bytes()).await?;
            }
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

async fn scram(
    connection: &mut RawConnection,
    body: &AuthenticationSaslBody,
    password: &[u8],
) -> Result<(), Failure> {
    let offered: Vec<String> = body.mechanisms().map(|name| Ok(name.to_owned())).collect()?;
    let offers = |name: &str| offered.iter().any(|offered| offered == name);
    let (mechanism, binding) = match connection.stream.binding() {
        Some(hash) if offers(SCRAM_PLUS) => {
            (SCRAM_PLUS, ChannelBinding::tls_server_end_point(hash))
        }
        Some(_) if offers(SCRAM) => (SCRAM, ChannelBinding::unrequested()),
        None if offers(SCRAM) => (SCRAM, ChannelBinding::unsupported()),
        _ => {
            let problem =
                format!("the server offers no login that we have: {}", offered.join(", "));
            return Err(Failure::Rejected(problem));
        }
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

/// What may come at any time is let pass.
fn expected(message: Message) -> Result<(), Failure> {
    match message {
        Message::ErrorResponse(body) => Err(Failure::Server(ServerMessage::read(&body))),
        Message::NoticeResponse(_) | Message::ParameterStatus(_) => Ok(()),
        _ => Err(Failure::Strange("the server says what cannot be said during a login".to_owned())),
    }
}
