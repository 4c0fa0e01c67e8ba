//! Rows of features as Parquet: a flat table whose columns have the names of the features.

use nearfield_engine::features::Features;
use nearfield_events::FeatureRow;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use std::fmt;
use std::io::Write;
use std::sync::Arc;

const SCHEMA: &str = "
message features {
  required binary user_id (STRING);
  required binary item_id (STRING);
  required binary kind (STRING);
  required int64 time_ms (TIMESTAMP(MILLIS, true));
  optional binary event_id (STRING);
  required int32 partition;
  required int64 offset;
  required boolean new_session;
  required int64 session_events;
  required int64 session_seconds;
  optional int32 hour;
  optional int32 weekday;
  optional int64 seconds_since_event;
  optional int64 seconds_since_item;
  optional int64 seconds_since_purchase;
  required int64 history_events;
  required int32 recent_views;
  required int32 recent_carts;
  required int32 recent_purchases;
  required group recent_items (LIST) { repeated group list { required binary element (STRING); } }
  optional double price;
  optional double price_affinity;
  optional double category_affinity;
  required binary device (STRING);
  required binary referrer (STRING);
}";

/// Rows of a row group (choice: some ten megabytes).
const GROUP_ROWS: usize = 100_000;

/// Why a file was not written.
#[derive(Debug)]
pub struct WriterError(ParquetError);

impl fmt::Display for WriterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for WriterError {}

impl From<ParquetError> for WriterError {
    fn from(error: ParquetError) -> Self {
        Self(error)
    }
}

/// Writes rows to a file.
pub struct Writer<W: Write + Send> {
    file: SerializedFileWriter<W>,
    rows: Vec<FeatureRow>,
}

impl<W: Write + Send> Writer<W> {
    /// Starts a file.
    ///
    /// # Errors
    /// [`WriterError`].
    pub fn new(output: W) -> Result<Self, WriterError> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
        let file = SerializedFileWriter::new(output, schema, Arc::new(properties.build()))?;
        Ok(Self { file, rows: Vec::new() })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// [`WriterError`].
    pub fn push(&mut self, row: FeatureRow) -> Result<(), WriterError> {
        self.rows.push(row);
        if self.rows.len() == GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// [`WriterError`].
    pub fn finish(mut self) -> Result<(), WriterError> {
        self.flush()?;
        self.file.close()?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriterError> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let mut group = Columns { group: self.file.next_row_group()?, rows: &rows };
        group.texts(|row| &row.user_id)?;
        group.texts(|row| &row.item_id)?;
        group.texts(|row| &row.kind)?;
        group.required::<Int64Type>(|row| row.time_ms)?;
        group.optional::<ByteArrayType>(|row| row.event_id.as_deref().map(ByteArray::from))?;
        group.required::<Int32Type>(|row| row.partition)?;
        group.required::<Int64Type>(|row| row.offset)?;
        group.required::<BoolType>(|row| row.features.new_session)?;
        group.required::<Int64Type>(|row| row.features.session_events.into())?;
        group.required::<Int64Type>(|row| row.features.session_seconds.into())?;
        group.optional::<Int32Type>(|row| row.features.hour.map(i32::from))?;
        group.optional::<Int32Type>(|row| row.features.weekday.map(i32::from))?;
        group.optional::<Int64Type>(|row| row.features.seconds_since_event.map(i64::from))?;
        group.optional::<Int64Type>(|row| row.features.seconds_since_item.map(i64::from))?;
        group.optional::<Int64Type>(|row| row.features.seconds_since_purchase.map(i64::from))?;
        group.required::<Int64Type>(|row| row.features.history_events.into())?;
        group.required::<Int32Type>(|row| row.features.recent_views.into())?;
        group.required::<Int32Type>(|row| row.features.recent_carts.into())?;
        group.required::<Int32Type>(|row| row.features.recent_purchases.into())?;
        group.lists(|features| &features.recent_items)?;
        group.optional::<DoubleType>(|row| row.features.price)?;
        group.optional::<DoubleType>(|row| row.features.price_affinity)?;
        group.optional::<DoubleType>(|row| row.features.category_affinity)?;
        group.texts(|row| row.features.device.as_str())?;
        group.texts(|row| row.features.referrer.as_str())?;
        group.group.close()?;
        Ok(())
    }
}

/// The columns of a row group, written one after another in the schema's order.
struct Columns<'a, 'w, W: Write + Send> {
    group: SerializedRowGroupWriter<'w, W>,
    rows: &'a [FeatureRow],
}

impl<W: Write + Send> Columns<'_, '_, W> {
    fn texts(&mut self, text: impl Fn(&FeatureRow) -> &str) -> Result<(), ParquetError> {
        self.required::<ByteArrayType>(|row| ByteArray::from(text(row)))
    }

    fn required<T: DataType>(&mut self, value: impl Fn(&FeatureRow) -> T::T) -> Result<(), ParquetError> {
        let values: Vec<T::T> = self.rows.iter().map(value).collect();
        self.write::<T>(&values, None, None)
    }

    fn optional<T: DataType>(
        &mut self,
        value: impl Fn(&FeatureRow) -> Option<T::T>,
    ) -> Result<(), ParquetError> {
        let values: Vec<Option<T::T>> = self.rows.iter().map(value).collect();
        let defined: Vec<i16> = values.iter().map(|value| value.is_some().into()).collect();
        let values: Vec<T::T> = values.into_iter().flatten().collect();
        self.write::<T>(&values, Some(&defined), None)
    }

    /// Writes lists of texts: an empty list is one entry that is not defined, and each text but the first of its list
    /// repeats.
    fn lists(&mut self, list: impl Fn(&Features) -> &[String]) -> Result<(), ParquetError> {
        let (mut values, mut defined, mut repeats) = (Vec::new(), Vec::new(), Vec::new());
        for row in self.rows {
            let texts = list(&row.features);
            if texts.is_empty() {
                defined.push(0);
                repeats.push(0);
            }
            for (index, text) in texts.iter().enumerate() {
                values.push(ByteArray::from(text.as_str()));
                defined.push(1);
                repeats.push(i16::from(index > 0));
            }
        }
        self.write::<ByteArrayType>(&values, Some(&defined), Some(&repeats))
    }

    fn write<T: DataType>(
        &mut self,
        values: &[T::T],
        defined: Option<&[i16]>,
        repeats: Option<&[i16]>,
    ) -> Result<(), ParquetError> {
        let mut column = self.group.next_column()?.expect("the schema has a column for each call");
        column.typed::<T>().write_batch(values, defined, repeats)?;
        column.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfield_engine::features::{Device, Profile};
    use nearfield_engine::{Context, Event, Kind};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{Field, List, Row};

    fn field<'a>(row: &'a Row, name: &str) -> &'a Field {
        row.get_column_iter().find(|(column, _)| *column == name).unwrap().1
    }

    #[test]
    fn a_file_has_every_value_of_its_rows() {
        let mut profile = Profile::default();
        let rows: Vec<FeatureRow> = (0..50u64)
            .map(|index| {
                let context = Context {
                    price: (index % 3 > 0).then_some(index as f64),
                    device: Some("tablet".to_owned()),
                    utc_offset_minutes: (index > 5).then_some(0),
                    ..Context::default()
                };
                let event = Event::new(Kind::View, format!("i{}", index % 7), 1_700_000_000_000 + index);
                let features = profile.observe(&event, &context);
                FeatureRow::new("ann", &event, 2, index as i64, features)
            })
            .collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = Writer::new(file.reopen().unwrap()).unwrap();
        rows.iter().for_each(|row| writer.push(row.clone()).unwrap());
        writer.finish().unwrap();

        let reader = SerializedFileReader::new(file.reopen().unwrap()).unwrap();
        let read: Vec<Row> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.len(), rows.len());
        for (read, row) in read.iter().zip(&rows) {
            let optional = |value: Option<f64>| value.map_or(Field::Null, Field::Double);
            let whole = |value: Option<u32>| value.map_or(Field::Null, |value| Field::Long(value.into()));
            assert_eq!(*field(read, "user_id"), Field::Str("ann".to_owned()));
            assert_eq!(*field(read, "offset"), Field::Long(row.offset));
            assert_eq!(*field(read, "time_ms"), Field::TimestampMillis(row.time_ms));
            assert_eq!(*field(read, "event_id"), Field::Null);
            assert_eq!(*field(read, "new_session"), Field::Bool(row.features.new_session));
            assert_eq!(
                *field(read, "hour"),
                row.features.hour.map_or(Field::Null, |hour| Field::Int(hour.into()))
            );
            assert_eq!(*field(read, "seconds_since_item"), whole(row.features.seconds_since_item));
            assert_eq!(*field(read, "price"), optional(row.features.price));
            assert_eq!(*field(read, "price_affinity"), optional(row.features.price_affinity));
            assert_eq!(*field(read, "device"), Field::Str(Device::Tablet.as_str().to_owned()));
            let Field::ListInternal(list) = field(read, "recent_items") else { panic!("no list") };
            let texts: Vec<Field> = row.features.recent_items.iter().cloned().map(Field::Str).collect();
            assert_eq!(List::elements(list), texts);
        }
    }
}
