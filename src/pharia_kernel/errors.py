"""Every failure the kernel tells anybody about, in one tree.

An error knows its machine-readable ``code``, the HTTP ``status`` it becomes, a ``title`` that is
the same for every occurrence (RFC 9457), who can fix it, and whether trying again can help. The
``detail`` is written for the person who reads the response: it names what was wrong and where, and
holds no secret, no upstream URL and no traceback. What only the operator may see goes to the log.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar


class Fixer(StrEnum):
    """Who can make the error go away."""

    CALLER = "caller"
    SKILL_AUTHOR = "skill-author"
    OPERATOR = "operator"
    UPSTREAM = "upstream"


class KernelError(Exception):
    """Base of all errors that may reach a caller."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    fixer: ClassVar[Fixer] = Fixer.OPERATOR
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, retry_after: float | None = None, **extra: Any) -> None:
        """``retry_after`` is in seconds. ``extra`` are members added to the problem (``skill``,
        ``errors``...)."""
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.extra = extra

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 problem object, without the ids that the shell adds."""
        return {
            "type": f"urn:pharia-kernel:error:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "fixable_by": str(self.fixer),
            "retryable": self.retryable,
            **self.extra,
        }


# --- the request ----------------------------------------------------------------------------------


class BadRequest(KernelError):
    code, status, title, fixer = "bad_request", 400, "Bad request", Fixer.CALLER


class InvalidNamespace(BadRequest):
    code, title = "invalid_namespace", "Invalid namespace"


class InvalidJson(BadRequest):
    code, title = "invalid_json", "Body is not JSON"


class UnsupportedCsiVersion(BadRequest):
    """The envelope of the legacy CSI route names no version that the route serves."""

    code, title = "unsupported_csi_version", "Unsupported version of the CSI"


class UnknownCsiFunction(BadRequest):
    code, title = "unknown_csi_function", "Unknown function of the CSI"


class InvalidInput(KernelError):
    """The input does not fit the skill's own schema, or the skill says that it cannot interpret
    it."""

    code, status, title, fixer = "invalid_input", 400, "Invalid input", Fixer.CALLER


class InputSchemaViolation(KernelError):
    code, status, title = "input_schema_violation", 422, "Input does not match the skill's schema"
    fixer = Fixer.CALLER


class Unauthenticated(KernelError):
    code, status, title, fixer = "unauthenticated", 401, "Bearer token expected", Fixer.CALLER


class InvalidToken(KernelError):
    """The bearer token is malformed, unknown, expired or otherwise not acceptable (RFC 6750)."""

    code, status, title, fixer = "invalid_token", 401, "Bearer token invalid", Fixer.CALLER


class Forbidden(KernelError):
    code, status, title, fixer = "forbidden", 403, "Not allowed", Fixer.CALLER


class InsufficientScope(Forbidden):
    """The bearer token is good, but does not grant what the request needs (RFC 6750). The member
    ``required`` names it: a permission, or ``permission:namespace``."""

    code, title = "insufficient_scope", "Permission missing"


class AuthorizationUnavailable(KernelError):
    code, status, title = "authorization_unavailable", 503, "Authorization service unavailable"
    retryable = True


class NotFound(KernelError):
    code, status, title, fixer = "not_found", 404, "Not found", Fixer.CALLER


class MethodNotAllowed(KernelError):
    code, status, title, fixer = "method_not_allowed", 405, "Method not allowed", Fixer.CALLER


class Conflict(KernelError):
    code, status, title, fixer = "conflict", 409, "Conflict with what exists", Fixer.CALLER


class PayloadTooLarge(KernelError):
    code, status, title, fixer = "payload_too_large", 413, "Body too large", Fixer.CALLER


class UnsupportedMediaType(KernelError):
    code, status, title, fixer = (
        "unsupported_media_type",
        415,
        "Unsupported media type",
        Fixer.CALLER,
    )


# --- finding and loading a skill ------------------------------------------------------------------


class SkillNotFound(NotFound):
    code, title = "skill_not_found", "Skill not found"


class NamespaceMisconfigured(KernelError):
    code, status, title = "namespace_misconfigured", 503, "Namespace is misconfigured"
    fixer = Fixer.OPERATOR


class NamespaceUnavailable(NamespaceMisconfigured):
    """The namespace's description could not be had; nothing is known to be wrong with it."""

    code, title, retryable = "namespace_unavailable", "Namespace's description unavailable", True


class SkillLoadError(KernelError):
    """The component can't be used: not a component, wrong world or version, unsatisfied
    import..."""

    code, status, title = "skill_load_error", 500, "Skill cannot be loaded"
    fixer = Fixer.SKILL_AUTHOR


class NotAComponent(SkillLoadError):
    code, title = "not_a_component", "Not a WebAssembly component"


class UnsupportedWorld(SkillLoadError):
    code, title = "unsupported_world", "Component has no pharia:skill world"


class WitTooOld(SkillLoadError):
    code, title = "wit_no_longer_supported", "WIT version no longer supported"


class WitTooNew(SkillLoadError):
    code, title = "wit_not_supported_yet", "WIT version not supported yet"


class UnsatisfiedImport(SkillLoadError):
    code, title = "unsatisfied_import", "Component imports something the kernel does not offer"


class CompileFailed(SkillLoadError):
    code, title = "compile_failed", "Component cannot be compiled"


class CompilerLost(CompileFailed):
    """The compiler process ended without a verdict on the component."""

    code, status, title, retryable = "compiler_lost", 503, "Compiler process was lost", True
    fixer = Fixer.OPERATOR


class SourceBroken(SkillLoadError):
    """In development: the author's source can't be imported. The detail names file and line."""

    code, title = "source_broken", "Source cannot be imported"


class SignatureRejected(SkillLoadError):
    """The namespace demands a signature, and the artifact has none that is good."""

    code, status, title = "signature_rejected", 503, "Signature rejected"
    fixer = Fixer.OPERATOR


class UnusableArtifact(SkillLoadError):
    """What the registry has under the name is no artifact with one component."""

    code, title = "unusable_artifact", "Artifact holds no usable component"


class SkillUnavailable(KernelError):
    """The skill's bytes could not be had (unreadable file, registry down)."""

    code, status, title = "skill_unavailable", 503, "Skill is unavailable"
    retryable = True


class RegistryUnavailable(SkillUnavailable):
    """The OCI registry can't be reached, is overloaded or does not answer in time."""

    code, title = "registry_unavailable", "Registry cannot be reached"


class RegistryUnauthorized(SkillUnavailable):
    code, title = "registry_unauthorized", "Registry refused access"


class ArtifactNotFound(SkillUnavailable):
    """The OCI registry has no such repository, tag, manifest or blob."""

    code, title = "artifact_not_found", "Artifact is not in the registry"


class BadRegistryAnswer(SkillUnavailable):
    """The OCI registry sent what makes no sense, or other bytes than their digest promises."""

    code, title = "bad_registry_answer", "Registry's answer makes no sense"


class SkillNotReady(SkillUnavailable):
    code, title = "skill_not_ready", "Skill is being prepared"


class SkillQuarantined(KernelError):
    code, status, title = "skill_quarantined", 503, "Skill is quarantined"
    fixer = Fixer.SKILL_AUTHOR


class WrongSkillKind(KernelError):
    code, status, title, fixer = "wrong_skill_kind", 409, "Wrong kind of skill", Fixer.CALLER


# --- running a skill ------------------------------------------------------------------------------


class SkillFailed(KernelError):
    """The skill returned ``error.internal``."""

    code, status, title, fixer = "skill_failed", 400, "Skill failed", Fixer.SKILL_AUTHOR


class SkillBug(KernelError):
    code, status, title, fixer = "skill_bug", 500, "Bug in the skill", Fixer.SKILL_AUTHOR


class InvalidOutput(SkillBug):
    code, title = "invalid_output", "Skill returned something that is not JSON"


class InvalidMetadata(SkillBug):
    code, title = "invalid_metadata", "Skill's metadata is invalid"


class CsiUseFromMetadata(SkillBug):
    code, title = "csi_use_from_metadata", "Metadata function used the CSI"


class InvalidCsiCall(SkillBug):
    code, title = "invalid_csi_call", "Skill called the CSI with invalid arguments"


class StreamOrderViolation(SkillBug):
    code, title = "stream_order_violation", "Skill emitted stream events out of order"


class SkillCrashed(SkillBug):
    """The guest trapped (panic, unreachable, out-of-bounds access...)."""

    code, title = "skill_crashed", "Skill crashed"


class SkillStackOverflow(SkillCrashed):
    code, title = "skill_stack_overflow", "Skill exhausted its stack"


class SkillOutOfMemory(SkillCrashed):
    code, title = "skill_out_of_memory", "Skill exceeded its memory limit"


class RunTimedOut(KernelError):
    code, status, title, fixer = (
        "run_timed_out",
        504,
        "Run exceeded its time limit",
        Fixer.SKILL_AUTHOR,
    )


class EngineLost(KernelError):
    """The engine process that held the run died."""

    code, status, title, retryable = "engine_lost", 503, "Engine process was lost", True


class Overloaded(KernelError):
    code, status, title = "overloaded", 429, "Too many runs"
    fixer, retryable = Fixer.OPERATOR, True


class ShuttingDown(KernelError):
    code, status, title, retryable = "shutting_down", 503, "Kernel is shutting down", True


# --- the Cognitive System Interface ---------------------------------------------------------------


class CsiError(KernelError):
    """A system call failed because of a driver or what is behind it."""

    code, status, title, fixer = "csi_error", 502, "System call failed", Fixer.UPSTREAM


class NotConfigured(CsiError):
    code, status, title = "not_configured", 503, "Driver not configured"
    fixer = Fixer.OPERATOR


class UpstreamUnauthorized(CsiError):
    code, status, title = "upstream_unauthorized", 502, "Backend refused the credentials"
    fixer = Fixer.OPERATOR


class TokenRequired(CsiError):
    code, status, title, fixer = (
        "token_required",
        401,
        "Backend needs the caller's token",
        Fixer.CALLER,
    )


class ModelNotFound(CsiError):
    code, status, title, fixer = "model_not_found", 404, "Unknown model", Fixer.CALLER


class InvalidCsiRequest(CsiError):
    code, status, title, fixer = "invalid_csi_request", 422, "Invalid system call", Fixer.CALLER


class DocumentNotFound(CsiError):
    code, status, title, fixer = "document_not_found", 404, "Unknown document", Fixer.CALLER


class CollectionNotFound(CsiError):
    code, status, title, fixer = "collection_not_found", 404, "Unknown collection", Fixer.CALLER


class IndexNotFound(CsiError):
    code, status, title, fixer = "index_not_found", 404, "Unknown index", Fixer.CALLER


class DocumentStorageFailed(CsiError):
    """The built-in document index cannot read or write its files."""

    code, status, title = "document_storage_failed", 503, "Document storage failed"
    fixer = Fixer.OPERATOR


class CallTooExpensive(CsiError):
    """The kernel itself does the work, and would need more time or memory than it gives a call."""

    code, status, title, fixer = (
        "call_too_expensive",
        422,
        "System call too expensive",
        Fixer.CALLER,
    )


class UpstreamOverloaded(CsiError):
    code, status, title, retryable = "upstream_overloaded", 503, "Backend is overloaded", True


class UpstreamTimeout(CsiError):
    code, status, title, retryable = "upstream_timeout", 504, "Backend did not answer in time", True


class UpstreamUnavailable(CsiError):
    code, status, title, retryable = "upstream_unavailable", 502, "Backend cannot be reached", True


class UpstreamRejected(CsiError):
    """The backend answered with an error that is none of the above."""

    code, title = "upstream_rejected", "Backend rejected the request"


class BadUpstreamAnswer(CsiError):
    code, title = "bad_upstream_answer", "Backend's answer makes no sense"


class EmptyContent(BadUpstreamAnswer):
    code, title = "empty_content", "Backend returned no content"


class UnexpectedToolCall(BadUpstreamAnswer):
    code, title = "unexpected_tool_call", "Backend called a tool that was not offered"


class OutboundRefused(KernelError):
    """The settings ``outbound`` forbid to connect to a server that a description names. The detail
    goes on after the server's name."""

    code, status, title = "outbound_refused", 503, "Connection forbidden by the outbound policy"


class ToolFailed(CsiError):
    """A tool failed. Guests get the text as a value, so it never ends a run."""

    code, title = "tool_failed", "Tool failed"
