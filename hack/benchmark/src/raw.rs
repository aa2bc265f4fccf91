//! Calls whose answers are counted, not decoded: what is timed ends with the last byte of the answer. Decoding five
//! hundred containers takes a client as long as a fast engine takes to list them, and is the same for both.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::Result;

/// The number of messages in field 1, which is the list in every List call of the CRI.
pub(crate) async fn count<T>(channel: &Channel, path: &str, request: T) -> Result<usize>
where
    T: Message + 'static,
{
    let mut client = Grpc::new(channel.clone()).max_decoding_message_size(16 << 20);
    client.ready().await?;
    let path = PathAndQuery::try_from(path)?;
    Ok(client.unary(Request::new(request), path, Counted(PhantomData)).await?.into_inner())
}

struct Counted<T>(PhantomData<fn(T)>);

impl<T: Message + 'static> Codec for Counted<T> {
    type Encode = T;
    type Decode = usize;
    type Encoder = Self;
    type Decoder = Count;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Count {
        Count
    }
}

impl<T: Message> Encoder for Counted<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> std::result::Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

struct Count;

impl Decoder for Count {
    type Item = usize;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> std::result::Result<Option<usize>, Status> {
        let mut items = 0;
        while buffer.has_remaining() {
            let length = match decode_key(buffer) {
                Ok((1, WireType::LengthDelimited)) => decode_varint(buffer),
                Ok((field, _)) => return Err(Status::internal(format!("field {field} in a list"))),
                Err(error) => return Err(Status::internal(error.to_string())),
            };
            let length = length.map_err(|error| Status::internal(error.to_string()))?;
            buffer.advance(usize::try_from(length).map_err(|_| Status::internal("length"))?);
            items += 1;
        }
        Ok(Some(items))
    }
}
