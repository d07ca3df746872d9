"""`foreshock image`: build, check, digest, sbom, sign, verify."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.options import JsonOption

app = typer.Typer(name="image", help="Build, check and identify container images.", no_args_is_help=True)


class VariantName(StrEnum):
    """Which image."""

    CPU = "cpu"
    GPU = "gpu"


class KindName(StrEnum):
    """What for: docker, podman and buildah (oci), or Apptainer (sif)."""

    OCI = "oci"
    SIF = "sif"


class EngineName(StrEnum):
    """Which program builds or runs."""

    DOCKER = "docker"
    PODMAN = "podman"
    BUILDAH = "buildah"
    APPTAINER = "apptainer"


class GpuName(StrEnum):
    """What the check expects."""

    AUTO = "auto"
    REQUIRED = "required"
    NONE = "none"


_BASE_HELP = "Base image, or a tar or folder of a root filesystem. Default: the pinned one."


@app.command("build")
def build(
    variant: Annotated[
        VariantName, typer.Argument(help="cpu: laptops and aggregation; gpu: with vLLM.")
    ] = VariantName.CPU,
    kind: Annotated[KindName | None, typer.Option(help="Default: sif with Apptainer here, otherwise oci.")] = None,
    engine: Annotated[EngineName | None, typer.Option(help="Default: the first one found.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="File of the SIF, or name of the image.")] = None,
    base: Annotated[str | None, typer.Option(help=_BASE_HELP)] = None,
    wheels: Annotated[Path | None, typer.Option(help="Folder of wheels; the build then uses no network.")] = None,
    djinn: Annotated[Path | None, typer.Option(help="Checkout of djinn (containers/ci/djinn.sh makes one).")] = None,
    pip_config: Annotated[Path | None, typer.Option(help="pip configuration for the build; not kept.")] = None,
    target: Annotated[str | None, typer.Option(help="Dockerfile target, such as test.")] = None,
    from_oci: Annotated[str | None, typer.Option(help="Convert this OCI image to a SIF.")] = None,
    source: Annotated[Path | None, typer.Option(help="Checkout to build from. Default: this one.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing SIF.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands of the build instead.")] = False,
) -> None:
    """Build an image; prints its digest (sif) or name (oci).

    Example: foreshock image build cpu --kind sif --output foreshock.sif
    """
    import os
    import signal

    from foreshock.containers import build as building
    from foreshock.containers.build_plan import BuildRequest
    from foreshock.containers.engines import Engine, ImageKind, look
    from foreshock.containers.errors import ImageError
    from foreshock.containers.pins import Variant, read_pins

    given = {"--base": base, "--wheels": wheels, "--djinn": djinn, "--pip-config": pip_config, "--target": target}
    if from_oci is not None and (ignored := [name for name, value in given.items() if value is not None]):
        raise ImageError(f"--from-oci converts an image as it is: {', '.join(ignored)} would do nothing; leave it out")
    if from_oci is not None and kind is KindName.OCI:
        raise ImageError("--from-oci makes a SIF of an OCI image; leave --kind oci out")
    machine = look()
    chosen = Variant(variant.value)
    if kind is not None:
        wanted = ImageKind(kind.value)
    elif from_oci is not None or (Engine.APPTAINER in machine.engines and engine in (None, EngineName.APPTAINER)):
        wanted = ImageKind.SIF
    else:
        wanted = ImageKind.OCI
    builder = Engine(engine.value) if engine else None
    if from_oci is not None:
        machine.choose(ImageKind.SIF, None)
        using = machine.choose(ImageKind.OCI, builder if builder is not Engine.APPTAINER else None)
    else:
        using = machine.choose(wanted, builder)
    name = output or (
        f"foreshock-{chosen.value}.sif" if wanted is ImageKind.SIF else f"localhost/foreshock:{chosen.value}"
    )
    if wanted is ImageKind.SIF and target is not None:
        raise ImageError("--target is a stage of the Dockerfile; give --kind oci with it")
    if wanted is ImageKind.SIF and Path(name).exists() and not force:
        raise ImageError(f"{name} exists; choose another --output or replace it with --force")
    checkout = Path() if from_oci is not None else building.find_source(source)
    request = BuildRequest(
        variant=chosen,
        kind=wanted,
        engine=using,
        output=name,
        context=checkout,
        base=base or building.default_base(chosen),
        git_commit="unknown" if from_oci is not None else building.git_commit(checkout),
        lock_sha256="unknown" if from_oci is not None else building.lock_sha256(chosen, checkout),
        wheels=wheels.absolute() if wheels else None,
        djinn=djinn.absolute() if djinn else None,
        pip_config=pip_config.absolute() if pip_config else None,
        target=target,
        from_oci=from_oci,
        epoch=building.source_date_epoch(os.environ),
        licences=read_pins().images[chosen].licences,
    )
    if dry_run:
        typer.echo("\n".join(building.dry_run(request, machine)))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as after Ctrl-C: the builder ends, its folder goes
    log = Path(f"{name}.log") if wanted is ImageKind.SIF else Path(f"foreshock-{chosen.value}-build.log")
    typer.echo(building.build(request, machine, lambda text: typer.echo(text, err=True), log))


@app.command("check")
def check(
    image: Annotated[str, typer.Argument(help="SIF file, sandbox folder or OCI image name.")],
    gpu: Annotated[
        GpuName, typer.Option(help="required: fail without a usable GPU; none: fail with one.")
    ] = GpuName.AUTO,
    engine: Annotated[EngineName | None, typer.Option(help="Default: by the kind of image.")] = None,
    scratch: Annotated[Path | None, typer.Option(help="Writable folder. Default: a temporary one.")] = None,
    unpack: Annotated[bool, typer.Option("--unpack", help="Unpack the SIF in place of mounting it.")] = False,
    allow_weak_sandbox: Annotated[
        bool, typer.Option("--allow-weak-sandbox", help="Accept a sandbox that runs refuse without the same consent.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the self-test inside an image, without network. Exits with 1 if a check fails.

    A check fails where a run would be refused.

    Example: foreshock image check foreshock-gpu.sif --gpu required
    """
    import os
    import tempfile

    from foreshock.containers import check as checking
    from foreshock.containers.engines import Engine, look
    from foreshock.containers.selftest import Gpu

    with tempfile.TemporaryDirectory(prefix="foreshock-check-") as folder:
        run = checking.compose_run(
            image,
            checking.selftest_command(Gpu(gpu.value), as_json=as_json, allow_weak_sandbox=allow_weak_sandbox),
            look(),
            (scratch or Path(folder)).absolute(),
            engine=Engine(engine.value) if engine else None,
            gpus=gpu is GpuName.REQUIRED or (gpu is GpuName.AUTO and Path("/dev/nvidiactl").exists()),
            unpack=unpack,
        )
        done = checking.run_in_image(run, dict(os.environ))
    if not done.stdout.strip():
        raise checking.runtime_failure(run, done)
    typer.echo(done.stdout, nl=False)
    raise typer.Exit(done.returncode)


@app.command("digest")
def digest(
    image: Annotated[str, typer.Argument(help="SIF file, sandbox folder, OCI image name, or an archive of one.")],
    content: Annotated[
        bool, typer.Option("--content", help="Of what it holds: the same however it is signed, converted or rebuilt.")
    ] = False,
) -> None:
    """Print the digest that plans and shards record.

    Example: foreshock image digest foreshock.sif --content
    """
    from foreshock.containers.archives import archive_id, archive_path
    from foreshock.containers.digest import image_file_digest
    from foreshock.containers.errors import ImageError
    from foreshock.containers.identity import content_of, oci_id

    if not image:
        raise ImageError("no image is named; give a .sif file, a sandbox folder, or the name of an OCI image")
    path, archive = Path(image), archive_path(image)
    if content:
        typer.echo(content_of(image))
    elif archive is not None:
        typer.echo(archive_id(archive))
    elif path.exists() or image.endswith(".sif") or image.startswith(("/", ".")):
        typer.echo(image_file_digest(path))
    else:
        typer.echo(oci_id(image))


@app.command("sbom")
def sbom(image: Annotated[str, typer.Argument(help="SIF file, sandbox folder or OCI image name.")]) -> None:
    """Print the image's bill of materials (SPDX 2.3).

    Example: foreshock image sbom foreshock-cpu.sif
    """
    import tempfile

    from foreshock.containers.engines import look
    from foreshock.containers.inside import read_inside
    from foreshock.image_record import IMAGE_FOLDER, SBOM

    with tempfile.TemporaryDirectory(prefix="foreshock-look-") as scratch:
        typer.echo(read_inside(image, str(IMAGE_FOLDER / SBOM), look(), Path(scratch)), nl=False)


@app.command("sign")
def sign(
    image: Annotated[str, typer.Argument(help="SIF file, or an OCI image in a registry (with cosign).")],
    key: Annotated[
        str | None,
        typer.Option(help="Private key (PEM for a SIF, cosign's own for OCI); default for a SIF: Apptainer's keyring."),
    ] = None,
) -> None:
    """Sign an image: a SIF with Apptainer's keys, an OCI image with cosign.

    Make a key pair first: apptainer key newpair

    Example: foreshock image sign foreshock-gpu.sif
    """
    from foreshock.containers.signing import sign_image

    typer.echo(sign_image(image, key))


@app.command("verify")
def verify(
    image: Annotated[str, typer.Argument(help="SIF file, or an OCI image in a registry (with cosign).")],
    key: Annotated[
        str | None, typer.Option(help="Public key (PEM, or cosign's own); default for a SIF: Apptainer's keyring.")
    ] = None,
    runtime: Annotated[str | None, typer.Option(help="Default: by the kind of image.")] = None,
) -> None:
    """Check an image's signature. Exits with 1 if it is missing, broken or another's.

    `container: {verify: true}` in a Slurm profile asks the same before anything is started.

    Example: foreshock image verify foreshock-gpu.sif
    """
    from foreshock.containers.signing import verify_image

    typer.echo(verify_image(image, runtime, key))
