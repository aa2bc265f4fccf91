//! ExecSync, and the calls whose answer is the address of a stream.

use cais_proto::runtime::v1::{
    AttachRequest as CriAttachRequest, AttachResponse, ExecRequest as CriExecRequest, ExecResponse,
    ExecSyncRequest, ExecSyncResponse, PortForwardRequest, PortForwardResponse,
};

use super::Cri;
use super::convert::check::{self, refuse};
use crate::api::call::about;
use crate::engine::{AttachRequest, ExecOutput, ExecRequest};
use crate::error::{Error, Result};

impl Cri {
    pub(super) async fn exec_sync(&self, request: ExecSyncRequest) -> Result<ExecSyncResponse> {
        let ExecSyncRequest { container_id, cmd, timeout } = request;
        about("container", &container_id);
        let command = command(cmd)?;
        let timeout = Some(check::seconds("timeout", timeout)?).filter(|it| !it.is_zero());

        let ExecOutput { stdout, stderr, code } =
            self.engine.exec_sync(&container_id, command, timeout).await?;

        Ok(ExecSyncResponse { stdout, stderr, exit_code: code })
    }

    pub(super) async fn exec(&self, request: CriExecRequest) -> Result<ExecResponse> {
        let CriExecRequest { container_id, cmd, tty, stdin, stdout, stderr } = request;
        about("container", &container_id);
        let exec = ExecRequest { command: command(cmd)?, tty, stdin, stdout, stderr };
        let url = self.engine.exec_url(&container_id, exec).await?;
        Ok(ExecResponse { url })
    }

    pub(super) async fn attach(&self, request: CriAttachRequest) -> Result<AttachResponse> {
        // The terminal is the container's own, whatever the client believes.
        let CriAttachRequest { container_id, stdin, tty: _, stdout, stderr } = request;
        about("container", &container_id);
        let attach = AttachRequest { stdin, stdout, stderr };
        let url = self.engine.attach_url(&container_id, attach).await?;
        Ok(AttachResponse { url })
    }

    pub(super) async fn port_forward(
        &self,
        request: PortForwardRequest,
    ) -> Result<PortForwardResponse> {
        let PortForwardRequest { pod_sandbox_id, port } = request;
        about("pod", &pod_sandbox_id);
        let ports = port.into_iter().map(port_number).collect::<Result<_>>()?;
        let url = self.engine.port_forward_url(&pod_sandbox_id, ports).await?;
        Ok(PortForwardResponse { url })
    }
}

fn command(words: Vec<String>) -> Result<Vec<String>> {
    if words.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("cmd is empty"));
    }
    words.into_iter().map(|word| check::no_zero_byte("cmd", word)).collect()
}

fn port_number(value: i32) -> Result<u16> {
    u16::try_from(value)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| refuse("port", format_args!("{value} is not a port")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_a_program() {
        assert_eq!(command(vec!["a".into(), String::new()]).unwrap(), ["a", ""]);
        for words in [vec![], vec![String::new()]] {
            assert_eq!(command(words).unwrap_err().chain(), "cmd is empty");
        }
        assert!(command(vec!["a".into(), "\0".into()]).unwrap_err().chain().contains("zero byte"));
    }

    #[test]
    fn a_port_to_forward_is_between_1_and_65535() {
        assert_eq!(port_number(65535).unwrap(), 65535);
        for value in [0, -1, 65536] {
            let chain = port_number(value).unwrap_err().chain();
            assert_eq!(chain, format!("port: {value} is not a port"));
        }
    }
}
