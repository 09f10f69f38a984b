//! One call on one connection.

use std::io;
use std::num::NonZeroU16;
use std::time::Duration;

use matchlock_api::control::{
    self, AllowListResult, Arg, Asked, ClientFrame, DialParams, PackParams, ServerFrame,
    UnpackParams,
};
use matchlock_api::rpc::{Refusal, result_message};
use matchlock_api::{
    Call, ControlCall, Empty, ErrorCode, ErrorKind, Method, RequestId, RpcError, control_method,
    method,
};
use matchlock_proto::FileRequest;
use matchlock_text::{DescribeChain, escape};
use matchlock_wire::WireMessage;
use matchlock_wire::io::read_one;
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{program, secrets};
use crate::classified::Classified;
use crate::error::CoreError;
use crate::forward::BUFFER;
use crate::handle::Up;
use crate::service::fault::of_exec;
use crate::service::network::{add_hosts, delete_hosts, no_interception};

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(30);

/// Carries out the one call of a connection.
pub(super) async fn answer(mut stream: UnixStream, up: &Up) -> io::Result<()> {
    let Ok(ClientFrame::Message(json)) = timeout(PATIENCE, read_one(&mut stream)).await? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let (id, asked) = match control::receive(&json) {
        Ok(asked) => asked,
        Err(refusal) => return send(&mut stream, refuse(&refusal)).await,
    };
    let wrong = |error| refuse(&Refusal { id: Some(id.clone()), error });
    match asked {
        Asked::Control(ControlCall::Run(params)) => match program::request(params) {
            Ok(request) => program::run(stream, &id, up.exec(request)).await,
            Err(error) => send(&mut stream, wrong(error)).await,
        },
        Asked::Control(ControlCall::Pack(PackParams { path, follow })) => {
            let request = FileRequest::Pack { path: path.into_bytes(), follow };
            program::run(stream, &id, up.file("pack", request)).await
        }
        Asked::Control(ControlCall::Unpack(UnpackParams { path, name, archive })) => {
            let name = name.map(Arg::into_bytes);
            let request = FileRequest::Unpack { path: path.into_bytes(), name, archive };
            program::run(stream, &id, up.file("unpack", request)).await
        }
        Asked::Control(ControlCall::Dial(params)) => dial(stream, &id, params, up).await,
        Asked::Control(ControlCall::SecretList(_)) => {
            let listed = secrets::list(up);
            send(&mut stream, answered::<control_method::SecretList>(&id, listed)).await
        }
        Asked::Control(ControlCall::SecretSet(params)) => {
            let set = secrets::set(params, up).await;
            send(&mut stream, answered::<control_method::SecretSet>(&id, set)).await
        }
        Asked::Control(ControlCall::SecretDelete(params)) => {
            let deleted = secrets::delete(params, up).await;
            send(&mut stream, answered::<control_method::SecretDelete>(&id, deleted)).await
        }
        Asked::Control(ControlCall::Stats(_)) => {
            let stats = up.stats().await.map_err(|error| of_exec(&error));
            send(&mut stream, answered::<control_method::Stats>(&id, stats)).await
        }
        Asked::Control(ControlCall::Top(_)) => {
            let top = up.top().await.map_err(|error| of_exec(&error));
            send(&mut stream, answered::<control_method::Top>(&id, top)).await
        }
        Asked::Control(ControlCall::AllowList(_)) => {
            let policy = up.policy().ok_or_else(no_interception);
            let allowed =
                policy.map(|policy| AllowListResult { allowed_hosts: policy.allowed_hosts() });
            send(&mut stream, answered::<control_method::AllowList>(&id, allowed)).await
        }
        Asked::Rpc(Call::AllowListAdd(params)) => {
            let added = add_hosts(&params, up.policy(), |policy| up.replace_policy(policy), told);
            send(&mut stream, answered::<method::AllowListAdd>(&id, added)).await
        }
        Asked::Rpc(Call::AllowListDelete(params)) => {
            let replace = |policy| up.replace_policy(policy);
            let removed = delete_hosts(&params, up.policy(), replace, told);
            send(&mut stream, answered::<method::AllowListDelete>(&id, removed)).await
        }
        Asked::Rpc(call) => send(&mut stream, wrong(not_here(&call))).await,
    }
}

fn answered<M: Method>(id: &RequestId, result: Result<M::Result, RpcError>) -> ServerFrame {
    match result {
        Ok(result) => done::<M>(id, &result),
        Err(error) => refuse(&Refusal { id: Some(id.clone()), error }),
    }
}

/// An error as an answer.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn told(error: CoreError) -> RpcError {
    let text = escape::one_line(&DescribeChain(&error).to_string());
    RpcError::new(ErrorCode::Sandbox, error.kind(), text)
}

/// Connects the client to a port of the guest.
async fn dial(
    mut stream: UnixStream,
    id: &RequestId,
    params: DialParams,
    up: &Up,
) -> io::Result<()> {
    // `receive` has checked it.
    let port = NonZeroU16::new(params.port).ok_or(io::ErrorKind::InvalidInput)?;
    let (mut guest, mut span) = match up.connect(port).await {
        Ok(connected) => connected,
        Err(error) => {
            let error = of_exec(&error);
            return send(&mut stream, refuse(&Refusal { id: Some(id.clone()), error })).await;
        }
    };
    send(&mut stream, done::<control_method::Dial>(id, &Empty {})).await?;
    let copied = copy_bidirectional_with_sizes(&mut stream, &mut guest, BUFFER, BUFFER).await;
    copied.map(drop).inspect_err(|error| span.failed(error))
}

async fn send(stream: &mut UnixStream, frame: ServerFrame) -> io::Result<()> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    stream.write_all(&bytes).await
}

/// The answer to a call that succeeded.
pub(super) fn done<M: Method>(id: &RequestId, result: &M::Result) -> ServerFrame {
    ServerFrame::Message(result_message::<M>(id, result))
}

/// The answer to one that failed.
pub(super) fn refuse(refusal: &Refusal) -> ServerFrame {
    ServerFrame::Message(refusal.to_message())
}

fn not_here(call: &Call) -> RpcError {
    let text = format!("{} is not a method of a control socket", call.name());
    RpcError::new(ErrorCode::MethodNotFound, ErrorKind::NotFound, text)
}
