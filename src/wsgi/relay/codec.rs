//! Messages as bytes and descriptors, and back.
//!
//! What comes from another process is not trusted: a message is read only if it is, byte for byte,
//! what [`Message::encode`] would have written. Heads pass the checks that those of an application
//! pass.
//! Runs on: event loop.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::message::{
    Answer, Kind, Limit, MAX_DESCRIPTORS, MAX_MESSAGE, MAX_PIECE, Malformed, Message, Order, Run,
    Settings, Ticket,
};
pub use super::wire::Descriptors;
use super::wire::{Reader, Writer, is_offset};
use crate::wsgi::error::Failure;
use crate::wsgi::exchange::{End, InFlight};
use crate::wsgi::head::ResponseHead;
use crate::wsgi::mailbox::{ExchangeId, Level};
use crate::wsgi::request::Flags;
use crate::wsgi::request::body::RequestBody;
use crate::wsgi::request::vars::Vars;
use crate::wsgi::segment::Segment;

const RUN: u8 = 1;
const CANCEL: u8 = 2;
const DISCARD: u8 = 3;
const CREDIT: u8 = 4;
const STACK: u8 = 5;
const STACKS: u8 = 8;
const NO: u8 = 17;
const TAKEN: u8 = 18;
const HEAD: u8 = 19;
const HEAD_PART: u8 = 20;
const CHUNK: u8 = 21;
const FILE: u8 = 22;
const SPOOLED: u8 = 23;
const BLOCKED: u8 = 24;
const END: u8 = 25;
const LOG: u8 = 26;
const SPENT: u8 = 27;
const STACKS_FOUND: u8 = 28;

impl Message {
    /// Appends the bytes of the message; returns the descriptors that go with them.
    pub fn encode(&self, out: &mut Vec<u8>) -> Descriptors<'_> {
        let mut to = Writer { out, fds: Descriptors::new() };
        to.u8(match &self.kind {
            Kind::Order(Order::Run(_)) => RUN,
            Kind::Order(Order::Cancel) => CANCEL,
            Kind::Order(Order::Discard) => DISCARD,
            Kind::Order(Order::Credit(_)) => CREDIT,
            Kind::Order(Order::Stack(_)) => STACK,
            Kind::Order(Order::Stacks) => STACKS,
            Kind::Answer(Answer::No) => NO,
            Kind::Answer(Answer::Taken { .. }) => TAKEN,
            Kind::Answer(Answer::Head(_)) => HEAD,
            Kind::Answer(Answer::HeadPart { .. }) => HEAD_PART,
            Kind::Answer(Answer::Chunk(_)) => CHUNK,
            Kind::Answer(Answer::File { .. }) => FILE,
            Kind::Answer(Answer::Spooled { .. }) => SPOOLED,
            Kind::Answer(Answer::Blocked) => BLOCKED,
            Kind::Answer(Answer::End(_)) => END,
            Kind::Answer(Answer::Log { .. }) => LOG,
            Kind::Answer(Answer::Spent(_)) => SPENT,
            Kind::Answer(Answer::Stacks { .. }) => STACKS_FOUND,
        });
        to.u64(self.id);
        match &self.kind {
            Kind::Order(order) => write_order(&mut to, order),
            Kind::Answer(answer) => write_answer(&mut to, answer),
        }
        to.fds
    }

    /// The message that consists of these bytes and descriptors.
    pub fn decode(bytes: &[u8], fds: Vec<OwnedFd>) -> Result<Self, Malformed> {
        if bytes.len() > MAX_MESSAGE || fds.len() > MAX_DESCRIPTORS {
            return Err(Malformed("too long"));
        }
        let mut from = Reader::new(bytes, fds);
        let (kind, id) = (from.u8()?, from.u64()?);
        let kind = match read_order(&mut from, kind)? {
            Some(order) => Kind::Order(order),
            None => Kind::Answer(read_answer(&mut from, kind)?),
        };
        from.finish(Self { id, kind })
    }
}

impl Message {
    /// What request a message is about that cannot be decoded, since its descriptors are missing,
    /// and whether it is an order.
    pub fn about(bytes: &[u8]) -> Option<(ExchangeId, bool)> {
        let mut from = Reader::new(bytes, Vec::new());
        let (kind, id) = (from.u8().ok()?, from.u64().ok()?);
        Some((id, kind < NO))
    }
}

fn write_order<'m>(to: &mut Writer<'_, 'm>, order: &'m Order) {
    match order {
        Order::Run(run) => write_run(to, run),
        Order::Cancel | Order::Discard | Order::Stacks => (),
        Order::Credit(InFlight { chunks, bytes, spooled }) => {
            to.u64(*chunks as u64);
            to.u64(*bytes as u64);
            to.u64(*spooled);
        }
        Order::Stack(depth) => to.u32(*depth),
    }
}

/// `None` if this is no kind of an order.
fn read_order(from: &mut Reader<'_>, kind: u8) -> Result<Option<Order>, Malformed> {
    Ok(Some(match kind {
        RUN => Order::Run(Box::new(read_run(from)?)),
        CANCEL => Order::Cancel,
        DISCARD => Order::Discard,
        CREDIT => Order::Credit(InFlight {
            chunks: from.usize()?,
            bytes: from.usize()?,
            spooled: from.u64()?,
        }),
        STACK => Order::Stack(from.u32()?),
        STACKS => Order::Stacks,
        _ => return Ok(None),
    }))
}

fn write_answer<'m>(to: &mut Writer<'_, 'm>, answer: &'m Answer) {
    match answer {
        Answer::No | Answer::Blocked => (),
        Answer::Taken { runner, ago } => {
            to.u64(*runner as u64);
            to.u64(nanos(*ago));
        }
        Answer::Head(head) => write_head(to, head),
        Answer::HeadPart { bytes, more } => {
            to.flags([*more]);
            to.bytes(bytes);
        }
        Answer::Chunk(bytes) => to.bytes(bytes),
        Answer::File { file, offset, len } => to.file(file, *offset, *len),
        Answer::Spooled { file, offset, len } => {
            to.flags([file.is_some()]);
            match file {
                Some(file) => to.file(file, *offset, *len),
                None => {
                    to.u64(*offset);
                    to.u64(*len);
                }
            }
        }
        Answer::Spent(cpu) => to.u64(nanos(*cpu)),
        Answer::End(end) => to.u8(end_code(*end)),
        Answer::Log { level, text } => {
            to.u8(level_code(*level));
            to.bytes(text.as_bytes());
        }
        Answer::Stacks { text, more } => {
            to.flags([*more]);
            to.bytes(text.as_bytes());
        }
    }
}

fn read_answer(from: &mut Reader<'_>, kind: u8) -> Result<Answer, Malformed> {
    Ok(match kind {
        NO => Answer::No,
        TAKEN => Answer::Taken { runner: from.usize()?, ago: Duration::from_nanos(from.u64()?) },
        HEAD => Answer::Head(read_head(from)?),
        HEAD_PART => {
            let [more] = from.flags()?;
            Answer::HeadPart { bytes: piece(from.rest())?, more }
        }
        CHUNK => Answer::Chunk(piece(from.rest())?),
        FILE => {
            let (offset, len) = body_range(from)?;
            Answer::File { file: from.descriptor()?, offset, len }
        }
        SPOOLED => {
            let [is_first] = from.flags()?;
            let (offset, len) = body_range(from)?;
            let file = if is_first { Some(Arc::new(from.descriptor()?)) } else { None };
            Answer::Spooled { file, offset, len }
        }
        BLOCKED => Answer::Blocked,
        END => Answer::End(read_end(from.u8()?)?),
        SPENT => Answer::Spent(Duration::from_nanos(from.u64()?)),
        STACKS_FOUND => {
            let [more] = from.flags()?;
            Answer::Stacks { text: from.text()?, more }
        }
        LOG => Answer::Log { level: read_level(from.u8()?)?, text: from.text()? },
        _ => return Err(Malformed("unknown kind")),
    })
}

/// Nobody would give credit for an empty piece.
fn piece(bytes: &[u8]) -> Result<Bytes, Malformed> {
    if bytes.is_empty() || bytes.len() > MAX_PIECE {
        return Err(Malformed("length of a piece"));
    }
    Ok(Bytes::copy_from_slice(bytes))
}

fn body_range(from: &mut Reader<'_>) -> Result<(u64, u64), Malformed> {
    let (offset, len) = from.range()?;
    if len > 0 { Ok((offset, len)) } else { Err(Malformed("length of a piece")) }
}

/// More than 584 years are as good as that.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Bytes of a [`Run`] beside its columns and its body.
const RUN_LEN: usize = 1 + 8 + 4 * 4 + 2 * 8 + 4 + 1 + 1 + 8 + 4 + 2 * 4;
/// What precedes the bytes of a piece of a body in memory, and stands for one in a file.
const MEMORY_LEN: usize = 1 + 4;
const FILE_LEN: usize = 1 + 8 + 8;

const MEMORY: u8 = 0;
const IN_FILE: u8 = 1;

impl Run {
    /// Whether it fits one message; what does not stays in the worker that has it.
    pub fn fits(&self) -> bool {
        let (names, values) = self.vars.columns();
        let title = self.limit.as_ref().map_or(0, |limit| limit.title.len());
        let (mut len, mut files) = (RUN_LEN + title + names.len() + values.len(), 0);
        for segment in self.body.iter().flat_map(|body| body.segments()) {
            match segment.bytes() {
                Some(bytes) => len += MEMORY_LEN + bytes.len(),
                None => (len, files) = (len + FILE_LEN, files + 1),
            }
        }
        len <= MAX_MESSAGE && files <= MAX_DESCRIPTORS
    }
}

fn write_run<'m>(to: &mut Writer<'_, 'm>, run: &'m Run) {
    for n in [run.app, run.pool, run.ticket.word, run.ticket.epoch] {
        to.u32(n);
    }
    to.u64(nanos(run.waited));
    let (time, title) = run.limit.as_ref().map_or((0, ""), |it| (nanos(it.time), &it.title[..]));
    to.u64(time);
    to.u32(title.len() as u32);
    to.bytes(title.as_bytes());
    let Flags { head, ignores_redirect, multithread, multiprocess, debug } = run.flags;
    to.flags([head, ignores_redirect, multithread, multiprocess, debug]);
    let Settings { on, heeds_header, size, spooling } = run.buffering;
    to.flags([on, heeds_header, spooling.is_some()]);
    to.u64(size as u64);
    to.u32(spooling.unwrap_or_default());
    let (names, values) = run.vars.columns();
    // What `fits` is not longer.
    to.u32(names.len() as u32);
    to.u32(values.len() as u32);
    to.bytes(names);
    to.bytes(values);
    for segment in run.body.iter().flat_map(|body| body.segments()) {
        match segment {
            Segment::Memory(_) | Segment::Copied(_) => {
                let bytes = segment.bytes().unwrap_or_default();
                to.u8(MEMORY);
                to.u32(bytes.len() as u32);
                to.bytes(bytes);
            }
            Segment::File { file, offset, len } => {
                to.u8(IN_FILE);
                to.file(file, *offset, *len);
            }
            Segment::Spooled { file, offset, len } => {
                to.u8(IN_FILE);
                to.file(file, *offset, *len);
            }
        }
    }
}

fn read_run(from: &mut Reader<'_>) -> Result<Run, Malformed> {
    let (app, pool) = (from.u32()?, from.u32()?);
    let ticket = Ticket { word: from.u32()?, epoch: from.u32()? };
    let waited = Duration::from_nanos(from.u64()?);
    let limit = read_limit(from)?;
    let [head, ignores_redirect, multithread, multiprocess, debug] = from.flags()?;
    let flags = Flags { head, ignores_redirect, multithread, multiprocess, debug };
    let [on, heeds_header, spools] = from.flags()?;
    let (size, index) = (from.usize()?, from.u32()?);
    if !spools && index != 0 {
        return Err(Malformed("temporary file"));
    }
    let buffering = Settings { on, heeds_header, size, spooling: spools.then_some(index) };
    let (names, values) = (from.u32()?, from.u32()?);
    let (names, values) = (from.bytes(names as usize)?, from.bytes(values as usize)?);
    let vars = Vars::from_columns(names, values).ok_or(Malformed("vars"))?;
    let body = read_body(from)?;
    Ok(Run { app, pool, ticket, waited, limit, flags, buffering, vars, body })
}

fn read_limit(from: &mut Reader<'_>) -> Result<Option<Limit>, Malformed> {
    let (time, title) = (from.u64()?, from.u32()?);
    let title = std::str::from_utf8(from.bytes(title as usize)?).map_err(|_| Malformed("text"))?;
    match (time, title) {
        (0, "") => Ok(None),
        (0, _) => Err(Malformed("limit")),
        _ => Ok(Some(Limit { time: Duration::from_nanos(time), title: title.to_owned() })),
    }
}

fn read_body(from: &mut Reader<'_>) -> Result<Option<Arc<RequestBody>>, Malformed> {
    let mut segments = Vec::new();
    let mut whole = 0u64;
    while !from.is_empty() {
        let segment = match from.u8()? {
            MEMORY => {
                let len = from.u32()?;
                Segment::Copied(from.bytes(len as usize)?.to_vec())
            }
            IN_FILE => {
                let (offset, len) = from.range()?;
                Segment::File { file: from.descriptor()?, offset, len }
            }
            _ => return Err(Malformed("body")),
        };
        whole = whole.saturating_add(segment.len());
        segments.push(segment);
    }
    if !is_offset(whole) {
        return Err(Malformed("body"));
    }
    let is_empty = segments.is_empty();
    Ok((!is_empty).then(|| Arc::new(RequestBody::new(segments))))
}

/// Bytes of a head beside its block.
const HEAD_LEN: usize = 1 + 8 + 8;

/// Bytes that [`encode_head`] would return.
pub fn head_len(head: &ResponseHead) -> usize {
    HEAD_LEN + head.block_len()
}

/// The bytes of a head that is too long for one message.
pub fn encode_head(head: &ResponseHead) -> Vec<u8> {
    let mut out = Vec::new();
    write_head(&mut Writer { out: &mut out, fds: Descriptors::new() }, head);
    out
}

/// The head that consists of these bytes.
pub fn decode_head(bytes: &[u8]) -> Result<ResponseHead, Malformed> {
    let mut from = Reader::new(bytes, Vec::new());
    let head = read_head(&mut from)?;
    from.finish(head)
}

fn write_head(to: &mut Writer<'_, '_>, head: &ResponseHead) {
    to.flags([head.is_file(), head.is_redirect(), head.content_length().is_some()]);
    to.u64(head.content_length().unwrap_or_default());
    to.u64(head.status().len() as u64);
    to.bytes(head.status());
    for (name, value) in head.fields() {
        for part in [name, value] {
            // A head has no longer ones.
            to.bytes(&(part.len() as u16).to_le_bytes());
            to.bytes(part);
        }
    }
}

/// Goes the way of an application's head again.
fn read_head(from: &mut Reader<'_>) -> Result<ResponseHead, Malformed> {
    let wrong = Malformed("head");
    let [is_file, is_redirect, has_length] = from.flags()?;
    let length = from.u64()?;
    let status = from.usize()?;
    let mut head = ResponseHead::new(from.bytes(status)?).map_err(|_| wrong)?;
    while !from.is_empty() {
        let name = from.u16()?;
        let name = from.bytes(name.into())?;
        let value = from.u16()?;
        let value = from.bytes(value.into())?;
        head.push(name, value).map_err(|_| wrong)?;
        if value.trim_ascii() != value {
            return Err(wrong);
        }
    }
    // The length has a place of its own, and only X-Accel-Redirect is obeyed.
    if head.content_length().is_some() || is_redirect && !head.is_redirect() {
        return Err(wrong);
    }
    if !is_redirect {
        head.ignore_redirect();
    }
    if is_file {
        head.set_file();
    }
    match (has_length, length) {
        (true, length) if is_offset(length) => head.set_content_length(length),
        (false, 0) => (),
        _ => return Err(wrong),
    }
    Ok(head)
}

fn end_code(end: End) -> u8 {
    match end {
        Ok(()) => 0,
        Err(Failure::Application) => 1,
        Err(Failure::Protocol) => 2,
        Err(Failure::Underrun) => 3,
        Err(Failure::Import) => 4,
        Err(Failure::Spool) => 5,
        Err(Failure::Lost) => 6,
        Err(Failure::Died) => 7,
    }
}

fn read_end(code: u8) -> Result<End, Malformed> {
    Ok(match code {
        0 => Ok(()),
        1 => Err(Failure::Application),
        2 => Err(Failure::Protocol),
        3 => Err(Failure::Underrun),
        4 => Err(Failure::Import),
        5 => Err(Failure::Spool),
        6 => Err(Failure::Lost),
        7 => Err(Failure::Died),
        _ => return Err(Malformed("end")),
    })
}

fn level_code(level: Level) -> u8 {
    match level {
        Level::Emerg => 0,
        Level::Alert => 1,
        Level::Error => 2,
        Level::Warn => 3,
        Level::Notice => 4,
        Level::Info => 5,
        Level::Crit => 6,
        Level::Debug => 7,
    }
}

fn read_level(code: u8) -> Result<Level, Malformed> {
    Ok(match code {
        0 => Level::Emerg,
        1 => Level::Alert,
        2 => Level::Error,
        3 => Level::Warn,
        4 => Level::Notice,
        5 => Level::Info,
        6 => Level::Crit,
        7 => Level::Debug,
        _ => return Err(Malformed("level")),
    })
}
