//! What the application gets for one request: environ, `wsgi.input`, `wsgi.errors`, start_response.
//!
//! Made for `call` by the [`ObjectFactory`] of an application, which gets them back when the
//! request has ended.
//! Runs on: pool thread. PEP 3333, "environ Variables".

use pyo3::prelude::*;

use crate::python::response::Response;
use crate::python::response::start_response::StartResponse;
use crate::wsgi::exchange::ResponseSender;
use crate::wsgi::request::Request;

use super::environ::EnvironFactory;
use super::errors::LogStream;
use super::free_list::FreeList;
use super::input::Input;
use super::socket::Connection;
use super::stream::Stream;

/// The objects of one request.
pub struct RequestObjects<'py> {
    pub environ: Bound<'py, PyAny>,
    pub start: Bound<'py, StartResponse>,
    pub input: Body<'py>,
    pub errors: Bound<'py, LogStream>,
    /// Of a request for a WebSocket.
    pub connection: Option<Connection<'py>>,
}

/// `wsgi.input`.
pub enum Body<'py> {
    /// Of a body that is complete.
    Whole(Bound<'py, Input>),
    /// Of one that the client still sends.
    Stream(Bound<'py, Stream>),
}

impl<'py> Body<'py> {
    fn as_any(&self) -> &Bound<'py, PyAny> {
        match self {
            Self::Whole(input) => input.as_any(),
            Self::Stream(stream) => stream.as_any(),
        }
    }

    /// Whether the client has not sent it all, and will not any more.
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::Stream(stream) if stream.get().is_broken())
    }

    /// The request has ended.
    pub fn end(&self) {
        match self {
            Self::Whole(input) => input.get().end(),
            Self::Stream(stream) => stream.get().end(),
        }
    }
}

/// Makes the objects of an application's requests.
pub struct ObjectFactory {
    environs: EnvironFactory,
    inputs: FreeList<Input>,
    errors: FreeList<LogStream>,
    starts: FreeList<StartResponse>,
}

impl ObjectFactory {
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        Ok(Self {
            environs: EnvironFactory::new(py)?,
            inputs: FreeList::default(),
            errors: FreeList::default(),
            starts: FreeList::default(),
        })
    }

    pub fn make<'py>(
        &self,
        py: Python<'py>,
        request: Request,
        sender: ResponseSender,
    ) -> PyResult<RequestObjects<'py>> {
        let Request { vars, body, pipe, upgrade, flags } = request;
        let input = match pipe {
            Some(pipe) => Body::Stream(Bound::new(py, Stream::new(pipe))?),
            None => {
                let input = self.inputs.take_or_make(py, Input::new)?;
                input.get().begin(body);
                Body::Whole(input)
            }
        };
        let errors = self.errors.take_or_make(py, LogStream::of_request)?;
        errors.get().begin(sender.id());
        let environ = self.environs.make(py, &vars, flags, input.as_any(), &errors)?.into_any();
        let connection = upgrade.map(|upgrade| Connection::open(&environ, upgrade)).transpose()?;
        let start = self.starts.take_or_make(py, StartResponse::new)?;
        let response = Response::new(sender, flags.head);
        start.try_borrow_mut()?.begin(response, flags.ignores_redirect);
        Ok(RequestObjects { environ, start, input, errors, connection })
    }

    /// The request has ended, and its objects have been told.
    pub fn leave(&self, objects: RequestObjects<'_>) {
        let RequestObjects { environ, start, input, errors, connection: _ } = objects;
        // It refers to the others, and its end may run code of the application.
        drop(environ);
        self.starts.leave(start);
        self.errors.leave(errors);
        if let Body::Whole(input) = input {
            self.inputs.leave(input);
        }
    }
}
