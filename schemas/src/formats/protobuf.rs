//! Protobuf. Fields that the contract does not have are passed over, fields that a writer did not have are unset, as
//! Protobuf's rules say.

use crate::compatibility;
use crate::event::{self, StreamEvent};
use crate::formats::fields::time;
use crate::frame;
use crate::refusal::{Reason, Refusal};
use crate::registry;
use nearfield_engine::{Event, Kind};
use prost::Message;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use std::sync::LazyLock;

#[allow(missing_docs, unreachable_pub)]
mod message {
    include!(concat!(env!("OUT_DIR"), "/nearfield.event.v1.rs"));
}

/// Name of the contract's message.
const NAME: &str = "nearfield.event.v1.Event";
/// Name that a schema's file goes by while it is compiled.
const FILE: &str = "event.proto";

/// The contract.
pub(crate) static OURS: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    message_of(registry::PROTOBUF).expect("the contract is a Protobuf file with its message")
});

/// Reads what was written with one schema.
pub(crate) struct Reader {
    /// Where the message is among those of its file.
    place: usize,
}

impl Reader {
    /// Returns the reader of what a schema wrote.
    ///
    /// # Errors
    /// [`Reason::Schema`] where the contract cannot read it, with the field.
    pub(crate) fn new(text: &str) -> Result<Self, Refusal> {
        let refused = |error: String| Refusal::new(Reason::Schema, error);
        let files = compile(text).map_err(refused)?;
        let file = files.get_file_by_name(FILE).expect("it was compiled");
        let found = file.messages().enumerate().find(|(_, message)| message.full_name() == NAME);
        let (place, writer) = found.ok_or_else(|| refused(format!("the file has no message {NAME}")))?;
        compatibility::protobuf(&writer, &OURS).map_err(|error| refused(error.to_string()))?;
        Ok(Self { place })
    }

    pub(crate) fn read(&self, bytes: &[u8]) -> Result<StreamEvent, Refusal> {
        let (path, bytes) = frame::split_path(bytes)?;
        if path != [self.place] {
            let message = format!("the message at {path:?} of the schema's file is not {NAME}");
            return Err(Refusal::new(Reason::Schema, message));
        }
        let read = message::Event::decode(bytes).map_err(|error| Refusal::new(Reason::Malformed, error))?;
        let kind = read.kind.checked_sub(1).and_then(|index| Kind::from_index(index.try_into().ok()?));
        let unknown = || {
            Refusal::new(Reason::UnknownKind, format!("kind {} is none that this version knows", read.kind))
        };
        let event = Event {
            kind: kind.ok_or_else(unknown)?,
            time_ms: time(read.time_ms)?,
            item_id: read.item_id,
            event_id: read.event_id,
            value: read.value,
            session_id: read.session_id,
        };
        let context = read.context.unwrap_or_default();
        let context = event::Context {
            utc_offset_minutes: context.utc_offset_minutes,
            device: context.device,
            referrer: context.referrer,
            price: context.price,
            category: context.category,
        };
        Ok(StreamEvent { user_id: read.user_id, event, query: read.query, context })
    }
}

pub(crate) fn write(event: &StreamEvent, output: &mut Vec<u8>) {
    let StreamEvent { user_id, event, query, context } = event.clone();
    let has_context = context != event::Context::default();
    let written = message::Event {
        user_id,
        kind: event.kind as i32 + 1,
        item_id: event.item_id,
        time_ms: event.time_ms as i64,
        event_id: event.event_id,
        value: event.value,
        session_id: event.session_id,
        query,
        context: has_context.then_some(message::Context {
            utc_offset_minutes: context.utc_offset_minutes,
            device: context.device,
            referrer: context.referrer,
            price: context.price,
            category: context.category,
        }),
    };
    written.encode(output).expect("a vector has room");
}

/// Returns the contract's message in the text of a file.
pub(crate) fn message_of(text: &str) -> Result<MessageDescriptor, String> {
    compile(text)?.get_message_by_name(NAME).ok_or_else(|| format!("the file has no message {NAME}"))
}

/// A schema's file, by the name it goes by.
struct One(File);

impl FileResolver for One {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == FILE { Ok(self.0.clone()) } else { Err(protox::Error::file_not_found(name)) }
    }
}

/// Compiles the text of a file that imports nothing but Google's well-known types.
pub(crate) fn compile(text: &str) -> Result<DescriptorPool, String> {
    let said = |error: protox::Error| error.to_string();
    let mut files = ChainFileResolver::new();
    files.add(One(File::from_source(FILE, text).map_err(said)?));
    files.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(files);
    compiler.include_imports(true).open_file(FILE).map_err(said)?;
    Ok(compiler.descriptor_pool())
}
