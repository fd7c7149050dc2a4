use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;

use super::carried::{Carried, observe, tell};
use super::{Resolve, Session, SessionToken, Settings};
use crate::session::state::Ending;

type Question = Pin<Box<dyn Future<Output = Option<SessionToken>> + Send>>;

pin_project! {
    /// The response of a [`SessionService`](super::SessionService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, C, R> {
        session: Session,
        settings: Settings<R>,
        #[pin]
        inner: TaskLocalFuture<Session, F>,
        // The response, and what it waits for.
        held: Option<(Response<C>, Question)>,
    }
}

impl<F: Future, C, R> ResponseFuture<F, C, R> {
    pub(super) fn new(session: Session, inner: F, settings: Settings<R>) -> Self {
        Self { inner: session.clone().around(inner), session, settings, held: None }
    }
}

impl<F, C, E, R> Future for ResponseFuture<F, C, R>
where
    F: Future<Output = Result<Response<C>, E>>,
    R: Resolve,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut response, mut question) = match this.held.take() {
            Some(held) => held,
            None => {
                let mut response = ready!(this.inner.poll(cx))?;
                match known(this.session, this.settings, &mut response) {
                    Ok(()) => return Poll::Ready(Ok(response)),
                    Err(question) => (response, question),
                }
            }
        };
        let Poll::Ready(token) = question.as_mut().poll(cx) else {
            *this.held = Some((response, question));
            return Poll::Pending;
        };
        let carried = token.map_or(Carried::Writer, Carried::Token);
        tell(carried, response.headers_mut(), &this.settings.header);
        Poll::Ready(Ok(response))
    }
}

/// Puts into the response what is known without asking, or says what is to be asked.
fn known<C, R: Resolve>(
    session: &Session,
    settings: &Settings<R>,
    response: &mut Response<C>,
) -> Result<(), Question> {
    let header = &settings.header;
    // A layer further in, or a server that was called on the way, may have told more than this session knows.
    observe(session, response.headers(), header);
    match session.ending() {
        Ending::Nothing => {}
        Ending::Token(token) => tell(Carried::Token(token), response.headers_mut(), header),
        Ending::Unfinished => tell(Carried::Writer, response.headers_mut(), header),
        Ending::Ask => return Err(ask(session, settings)),
    }
    Ok(())
}

fn ask<R: Resolve>(session: &Session, settings: &Settings<R>) -> Question {
    let Settings { resolve, patience, .. } = settings.clone();
    let session = session.clone();
    Box::pin(async move {
        tokio::time::timeout(patience, resolve.resolve(&session)).await.ok().flatten()
    })
}
