//! The name the program was called by. As `docker` it says what docker says.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Cais,
    Docker,
}

impl Program {
    pub(crate) fn of(argument: &str) -> Self {
        let name = argument.rsplit('/').next().unwrap_or_default();
        if name == "docker" { Self::Docker } else { Self::Cais }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cais => "cais",
            Self::Docker => "docker",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Cais => "Cais",
            Self::Docker => "Docker",
        }
    }
}
