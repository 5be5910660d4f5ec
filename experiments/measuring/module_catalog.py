"""Modules of other packages, as small as their configurations allow, each with an input that it takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from supermask.torchvision_import import import_torchvision

Inputs = tuple[Tensor, ...] | Mapping[str, Tensor]
TOKENS, WIDTH = 64, 32


@dataclass(frozen=True)
class Subject:
    """A module of a package.

    Attributes:
        package: that it comes from.
        name: of its class or of its builder there.
        build: returns it, with weights of its own.
        inputs: returns what its forward pass is called with: arguments, or keywords.
        learned: parameters that are trained as usual, because the package has parametrized them itself.

    """

    package: str
    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]
    learned: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.package}: {self.name}"


def _image(size: int) -> Inputs:
    return (torch.randn(4, 3, size, size),)


def _tokens() -> Inputs:
    return {"input_ids": torch.randint(3, TOKENS, (4, 12))}


def _two_token_inputs() -> Inputs:
    return {"input_ids": torch.randint(3, TOKENS, (4, 12)), "decoder_input_ids": torch.randint(3, TOKENS, (4, 10))}


def _pixels(size: int = 32) -> Inputs:
    return {"pixel_values": torch.randn(4, 3, size, size)}


def _waves() -> Inputs:
    return {"input_values": torch.randn(2, 4000)}


def _spectrogram() -> Inputs:
    return {"input_features": torch.randn(2, 8, 40), "decoder_input_ids": torch.randint(3, TOKENS, (2, 6))}


def _text_and_image() -> Inputs:
    return {"input_ids": torch.randint(3, TOKENS, (4, 12)), "pixel_values": torch.randn(4, 3, 32, 32)}


_DECODER = {
    "vocab_size": TOKENS,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GPT = {
    "vocab_size": TOKENS,
    "n_embd": WIDTH,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_DECODER, "num_key_value_heads": 2, "head_dim": 8}
_ENCODER = {**_DECODER, "type_vocab_size": 2}
_SEQUENCES = {
    "vocab_size": TOKENS,
    "d_model": WIDTH,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 2 * WIDTH,
    "decoder_ffn_dim": 2 * WIDTH,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
_PATCHES = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
_STAGES = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32], "num_stages": 4}
_SPEECH = {
    **_ENCODER,
    "conv_dim": (16, 16),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "mask_time_prob": 0.0,
}

_LEARNED = ("encoder.pos_conv_embed.conv.*",)
"""Of networks for speech: a convolution under weight norm."""

# class of the model, class of its configuration, what that is given, inputs
_TRANSFORMERS: tuple[tuple[str, str, Mapping[str, Any], Callable[[], Inputs]], ...] = (
    ("GPT2LMHeadModel", "GPT2Config", _GPT, _tokens),
    ("GPTNeoForCausalLM", "GPTNeoConfig", {**_DECODER, "num_layers": 2, "num_heads": 4, "window_size": 8,
     "attention_types": [[["global", "local"], 1]]}, _tokens),
    ("GPTNeoXForCausalLM", "GPTNeoXConfig", _DECODER, _tokens),
    ("GPTJForCausalLM", "GPTJConfig", {**_GPT, "rotary_dim": 4}, _tokens),
    ("LlamaForCausalLM", "LlamaConfig", _GROUPED, _tokens),
    ("MistralForCausalLM", "MistralConfig", _GROUPED, _tokens),
    ("MixtralForCausalLM", "MixtralConfig", {**_GROUPED, "num_local_experts": 4}, _tokens),
    ("Qwen2ForCausalLM", "Qwen2Config", _GROUPED, _tokens),
    ("Qwen2MoeForCausalLM", "Qwen2MoeConfig", {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2,
     "moe_intermediate_size": WIDTH, "shared_expert_intermediate_size": WIDTH}, _tokens),
    ("Qwen3ForCausalLM", "Qwen3Config", _GROUPED, _tokens),
    ("GemmaForCausalLM", "GemmaConfig", _GROUPED, _tokens),
    ("Gemma2ForCausalLM", "Gemma2Config", _GROUPED, _tokens),
    ("PhiForCausalLM", "PhiConfig", _DECODER, _tokens),
    ("Phi3ForCausalLM", "Phi3Config", _DECODER, _tokens),
    ("OPTForCausalLM", "OPTConfig", {**_DECODER, "ffn_dim": 2 * WIDTH, "word_embed_proj_dim": WIDTH}, _tokens),
    ("BloomForCausalLM", "BloomConfig", {"vocab_size": TOKENS, "hidden_size": WIDTH, "n_layer": 2, "n_head": 4},
     _tokens),
    ("FalconForCausalLM", "FalconConfig", _DECODER, _tokens),
    ("OlmoForCausalLM", "OlmoConfig", _DECODER, _tokens),
    ("StableLmForCausalLM", "StableLmConfig", _GROUPED, _tokens),
    ("MambaForCausalLM", "MambaConfig", {"vocab_size": TOKENS, "hidden_size": WIDTH, "num_hidden_layers": 2}, _tokens),
    ("Mamba2ForCausalLM", "Mamba2Config", {"vocab_size": TOKENS, "hidden_size": WIDTH, "num_hidden_layers": 2,
     "num_heads": 8, "head_dim": 8, "state_size": 16, "n_groups": 1, "chunk_size": 4}, _tokens),
    ("BertModel", "BertConfig", _ENCODER, _tokens),
    ("RobertaModel", "RobertaConfig", {**_ENCODER, "max_position_embeddings": 40}, _tokens),
    ("DistilBertModel", "DistilBertConfig", {"vocab_size": TOKENS, "dim": WIDTH, "n_layers": 2, "n_heads": 4,
     "hidden_dim": 2 * WIDTH, "max_position_embeddings": 32}, _tokens),
    ("AlbertModel", "AlbertConfig", {**_ENCODER, "embedding_size": 16}, _tokens),
    ("ElectraModel", "ElectraConfig", {**_ENCODER, "embedding_size": 16}, _tokens),
    ("DebertaV2Model", "DebertaV2Config", {**_ENCODER, "relative_attention": True}, _tokens),
    ("XLNetModel", "XLNetConfig", {"vocab_size": TOKENS, "d_model": WIDTH, "n_layer": 2, "n_head": 4,
     "d_inner": 2 * WIDTH}, _tokens),
    ("T5ForConditionalGeneration", "T5Config", {"vocab_size": TOKENS, "d_model": WIDTH, "d_kv": 8, "d_ff": 2 * WIDTH,
     "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}, _two_token_inputs),
    ("BartForConditionalGeneration", "BartConfig", _SEQUENCES, _two_token_inputs),
    ("MarianMTModel", "MarianConfig", {**_SEQUENCES, "decoder_vocab_size": TOKENS}, _two_token_inputs),
    ("WhisperForConditionalGeneration", "WhisperConfig", {**_SEQUENCES, "num_mel_bins": 8, "max_source_positions": 20,
     "max_target_positions": 16}, _spectrogram),
    ("Wav2Vec2Model", "Wav2Vec2Config", _SPEECH, _waves),
    ("HubertModel", "HubertConfig", _SPEECH, _waves),
    ("ViTModel", "ViTConfig", _PATCHES, _pixels),
    ("DeiTModel", "DeiTConfig", _PATCHES, _pixels),
    ("BeitModel", "BeitConfig", _PATCHES, _pixels),
    ("Dinov2Model", "Dinov2Config", _PATCHES, _pixels),
    ("SwinModel", "SwinConfig", {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1],
     "num_heads": [2, 4], "window_size": 4}, _pixels),
    ("ConvNextModel", "ConvNextConfig", _STAGES, partial(_pixels, 64)),
    ("ConvNextV2Model", "ConvNextV2Config", _STAGES, partial(_pixels, 64)),
    ("ResNetModel", "ResNetConfig", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1],
     "layer_type": "basic"}, _pixels),
    ("SegformerModel", "SegformerConfig", {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1],
     "hidden_sizes": [8, 16], "patch_sizes": [7, 3], "strides": [4, 2], "num_attention_heads": [1, 2],
     "mlp_ratios": [2, 2]}, _pixels),
    ("CLIPModel", "CLIPConfig", {"text_config": {**_DECODER, "projection_dim": 16}, "vision_config": {**_PATCHES,
     "projection_dim": 16}, "projection_dim": 16}, _text_and_image),
)  # fmt: skip

# name, what its builder is given, side of the images
_TIMM: tuple[tuple[str, Mapping[str, Any], int], ...] = (
    ("resnet10t", {}, 64),
    ("seresnext26t_32x4d", {}, 64),
    ("convnext_atto", {}, 64),
    ("convnextv2_atto", {}, 64),
    ("efficientnet_lite0", {}, 64),
    ("mobilenetv3_small_050", {}, 64),
    ("mobilenetv4_conv_small_035", {}, 64),
    ("mobileone_s0", {}, 64),
    ("repvgg_a0", {}, 64),
    ("regnetx_002", {}, 64),
    ("ghostnet_050", {}, 64),
    ("nf_regnet_b0", {}, 64),
    ("vit_tiny_patch16_224", {"img_size": 64, "depth": 2}, 64),
    ("cait_xxs24_224", {"img_size": 64, "depth": 2}, 64),
    ("mixer_s32_224", {"img_size": 64}, 64),
    ("resmlp_12_224", {"img_size": 64}, 64),
    ("gmlp_ti16_224", {"img_size": 64}, 64),
    ("xcit_nano_12_p16_224", {"img_size": 64}, 64),
    ("poolformer_s12", {}, 64),
    ("edgenext_xx_small", {}, 64),
    ("efficientformerv2_s0", {}, 224),
    ("levit_128s", {}, 224),
)

_TORCHVISION: tuple[tuple[str, Mapping[str, Any], int], ...] = (
    ("resnet18", {}, 64),
    ("densenet121", {}, 32),
    ("googlenet", {"init_weights": False}, 64),
    ("mobilenet_v2", {}, 64),
    ("mobilenet_v3_small", {}, 64),
    ("mnasnet0_5", {}, 64),
    ("shufflenet_v2_x0_5", {}, 64),
    ("squeezenet1_1", {}, 64),
    ("efficientnet_b0", {}, 64),
    ("regnet_y_400mf", {}, 64),
    ("convnext_tiny", {}, 32),
    ("swin_t", {}, 64),
)


def _of_transformers(model: str, configuration: str, options: Mapping[str, Any]) -> nn.Module:
    import transformers

    made: nn.Module = getattr(transformers, model)(getattr(transformers, configuration)(**options))
    return made


def _of_timm(name: str, options: Mapping[str, Any]) -> nn.Module:
    import timm

    made: nn.Module = timm.create_model(name, num_classes=10, **options)
    return made


def _of_torchvision(name: str, options: Mapping[str, Any]) -> nn.Module:
    made: nn.Module = import_torchvision().models.get_model(name, num_classes=10, **options)
    return made


SUBJECTS: tuple[Subject, ...] = (
    *(
        Subject(
            "transformers",
            model,
            partial(_of_transformers, model, configuration, options),
            inputs,
            _LEARNED if inputs is _waves else (),
        )
        for model, configuration, options, inputs in _TRANSFORMERS
    ),
    *(Subject("timm", name, partial(_of_timm, name, options), partial(_image, size)) for name, options, size in _TIMM),
    *(
        Subject("torchvision", name, partial(_of_torchvision, name, options), partial(_image, size))
        for name, options, size in _TORCHVISION
    ),
)
