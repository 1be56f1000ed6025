//! A gRPC connection to etcd: unary calls over one HTTP/2 connection that stays open, directly on `h2`.
//!
//! Messages carry etcd's field numbers (`etcdserverpb/rpc.proto`), as far as they are asked or looked at here.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri};
use prost::Message;
use tokio::net::TcpStream;

use crate::error::Failure;
use crate::generator::{Op, Request};
use crate::resp::Refused;

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

/// Without field 7 (`serializable`) a range is linearizable: etcd's default.
#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// What a member says about itself.
#[derive(Debug)]
pub(crate) struct Status {
    /// etcd's version.
    pub(crate) version: String,
    /// The member that answers.
    pub(crate) member: u64,
    /// The leader it knows, 0 for none.
    pub(crate) leader: u64,
}

/// How a call ended.
enum Outcome {
    Answer(Bytes),
    Refused(String),
}

/// One connection with one outstanding call.
#[derive(Debug)]
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
    authority: String,
    /// Drives the connection; ended with it.
    driver: tokio::task::AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

impl Connection {
    /// Shakes hands on a connected stream.
    pub(crate) async fn new(stream: TcpStream, address: SocketAddr) -> Result<Connection, Failure> {
        let (requests, connection) = h2::client::handshake(stream).await.map_err(broken)?;
        // Its end shows in the requests, which fail.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Connection { requests, authority: address.to_string(), driver })
    }

    /// Sends a batch, one call after the other, and waits for each answer.
    pub(crate) async fn batch(&mut self, request: &Request<'_>) -> Result<Refused, Failure> {
        let mut refused = Refused::default();
        for key in request.keys {
            let key = Bytes::copy_from_slice(key);
            let problem = match request.op {
                Op::Set => self.put(key, request.value.clone()).await?,
                Op::Get => match self.range(key).await? {
                    Ok(Some(value)) if value.len() == request.value.len() => None,
                    Ok(other) => Some(format!("value of {:?} bytes", other.map(|value| value.len()))),
                    Err(refusal) => Some(refusal),
                },
                Op::Incr | Op::SetWait => {
                    return Err(Failure::Usage(String::from("etcd has no such command")));
                }
            };
            if let Some(problem) = problem {
                refused.count += 1;
                refused.first.get_or_insert(problem);
            }
        }
        Ok(refused)
    }

    /// Writes a key; gives why not, if refused.
    pub(crate) async fn put(&mut self, key: Bytes, value: Bytes) -> Result<Option<String>, Failure> {
        match self.call(PUT, &PutRequest { key, value }).await? {
            Outcome::Answer(bytes) => {
                let response = PutResponse::decode(bytes).map_err(|_| Failure::Malformed("a PutResponse"))?;
                let revision = response.header.map_or(0, |header| header.revision);
                Ok((revision <= 0).then(|| String::from("a put without a revision")))
            }
            Outcome::Refused(why) => Ok(Some(why)),
        }
    }

    /// Reads a key, linearizably.
    pub(crate) async fn range(&mut self, key: Bytes) -> Result<Result<Option<Bytes>, String>, Failure> {
        match self.call(RANGE, &RangeRequest { key }).await? {
            Outcome::Answer(bytes) => {
                let response =
                    RangeResponse::decode(bytes).map_err(|_| Failure::Malformed("a RangeResponse"))?;
                Ok(Ok(response.kvs.into_iter().next().map(|pair| pair.value)))
            }
            Outcome::Refused(why) => Ok(Err(why)),
        }
    }

    /// Asks the member how it is.
    pub(crate) async fn status(&mut self) -> Result<Status, Failure> {
        match self.call(STATUS, &StatusRequest {}).await? {
            Outcome::Answer(bytes) => {
                let response =
                    StatusResponse::decode(bytes).map_err(|_| Failure::Malformed("a StatusResponse"))?;
                let member = response.header.map_or(0, |header| header.member_id);
                Ok(Status { version: response.version, member, leader: response.leader })
            }
            Outcome::Refused(why) => Err(Failure::server("etcd", why)),
        }
    }

    async fn call(&mut self, method: &'static str, message: &impl Message) -> Result<Outcome, Failure> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.authority.as_str())
            .path_and_query(PathAndQuery::from_static(method))
            .build()
            .expect("an address and a fixed path make an address");
        let head = http::Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header("te", HeaderValue::from_static("trailers"))
            .header("content-type", HeaderValue::from_static("application/grpc"))
            .body(())
            .expect("fixed headers are valid");
        std::future::poll_fn(|context| self.requests.poll_ready(context)).await.map_err(broken)?;
        let (response, mut body) = self.requests.send_request(head, false).map_err(broken)?;
        body.send_data(framed(message), true).map_err(broken)?;
        answer(response.await.map_err(broken)?).await
    }
}

/// A gRPC frame: not compressed, length, message.
fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("requests are short"));
    message.encode(&mut frame).expect("room was made");
    frame.freeze()
}

async fn answer(response: http::Response<h2::RecvStream>) -> Result<Outcome, Failure> {
    if response.status() != http::StatusCode::OK {
        return Ok(Outcome::Refused(format!("HTTP {}", response.status())));
    }
    if let Some(refusal) = refusal(response.headers()) {
        return Ok(Outcome::Refused(refusal));
    }
    let mut stream = response.into_body();
    let mut body = BytesMut::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk.map_err(broken)?;
        stream.flow_control().release_capacity(chunk.len()).map_err(broken)?;
        body.extend_from_slice(&chunk);
    }
    if let Some(refusal) = stream.trailers().await.map_err(broken)?.as_ref().and_then(refusal) {
        return Ok(Outcome::Refused(refusal));
    }
    let mut body = body.freeze();
    if body.len() < 5 || body.get_u8() != 0 || body.get_u32() as usize != body.len() {
        return Err(Failure::Malformed("a gRPC frame"));
    }
    Ok(Outcome::Answer(body))
}

fn refusal(headers: &HeaderMap) -> Option<String> {
    let status = headers.get("grpc-status")?;
    if status == "0" {
        return None;
    }
    let message = headers.get("grpc-message").map_or("", |value| value.to_str().unwrap_or("?"));
    Some(format!("grpc-status {} {message}", status.to_str().unwrap_or("?")))
}

fn broken(error: h2::Error) -> Failure {
    Failure::io("HTTP/2")(std::io::Error::other(error))
}
