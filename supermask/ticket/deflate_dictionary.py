"""Deflation of what many tickets have in common: it begins as if this dictionary had gone before.

The dictionary is part of the format: a change of one byte makes every ticket unreadable.
"""

import sys
import zlib

from supermask.errors import TicketError

# the likeliest last: deflate codes a short way back in fewer bits
_DICTIONARY = (
    b'{"__metadata__":{"format":"pt"},"running_mean":{"dtype":"F32","shape":[64],"data_offsets":[0,256]},'
    b'"bn1.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[256,264]},"bn1.running_var":'
    b'"features.0.weight":"classifier.0.weight":"layer1.0.conv1.weight":"layer1.0.bn1.weight":"downsample.0.weight":'
    b'"modules":"target":"widths":"certificate":"pixels":"construct":"relu_diamond":"linear":"epsilon":"radius":'
    b'"control":"shuffled":"reinitialised":"inverted":"trained":"random_mask":"magnitude":"iterative":"snip":"grasp":'
    b'"learned_supermask":"gem_miner":"iterand":"biprop":"signed_supermask":"multicoated":"heuristic":"structured":'
    b'"synthetic":"digits":"fashion_mnist":"cifar10":"cifar100":"resnet20":"resnet18":"wide_resnet28":"conv2":"conv4":'
    b'"conv6":"lenet5":"input_shape":[3,32,32],"in_chans":"kaiming_normal":"xavier_normal":"kaiming_uniform":'
    b'"truncated_normal":"uniform":"bound":"fan_out":"Global":"floor":"ERK":"Cubic":"Linear":"start":"end":"every":'
    b'"adam":"adamw":"step":"warm_up":5,"augment":true,"bf16":true,"channels_last":true,"best":"final","frozen":'
    b'"treatments":{"presets":{"fc1.weight":[1.0,false,true,false],"tasks":[{'
    b'{"seed":0,"distributions":[{"name":"signed_constant","gain":1.4142135623730951,"mode":"fan_in"}],"weights":{'
    b'"conv1.weight":[[64,3,3,3],0,[27,576],1.4142135623730951],"fc1.weight":[[300,784],0,[784,300],3.162277660168379],'
    b'"fc2.weight":[[100,300],0,[300,100],3.162277660168379],"fc3.weight":[[10,100],0,[100,10],3.162277660168379]},'
    b'"constants":{"conv1.bias":0.0,"fc1.bias":0.0,"fc2.bias":0.0,"fc3.bias":0.0},"bypassed":[],"digest":"'
    b'0123456789abcdef","provenance":{"algorithm":"edge_popup","options":{"density":0.1,"scope":{"name":"PerLayer"},'
    b'"scaled":true,"score":"magnitude","scores":{"name":"kaiming_uniform","gain":0.5773502691896257,"mode":"fan_in"},'
    b'"schedule":{"name":"Constant"},"own_density":{},"include":[],"dense":[],"learned":[],"bias":"none","norm":'
    b'"affine_off"},"steps":17180,"versions":{"python":"3.11.7","supermask":"0.1.0","torch":"2.11.0","torchvision":'
    b'"0.26.0","numpy":"2.4.6"},"model":{"name":"lenet_300_100","input_shape":[1,28,28],"classes":10,"width":1.0},'
    b'"data":"mnist","recipe":{"epochs":20,"batch_size":64,"optimizer":"sgd","learning_rate":0.1,"momentum":0.9,'
    b'"weight_decay":0.0001,"decay":"cosine","warm_up":0,"augment":false,"bf16":false,"channels_last":false,"best":'
    b'"auto","evaluate_every":0},"metrics":{"best_step":17180,"test_accuracy":0.9643}},'
    b'"file":{"masks":{"fc1.weight":[300,784],"fc2.weight":[100,300],"fc3.weight":[10,100]}}}'
)


def deflated(data: bytes) -> bytes:
    """Return the data deflated (RFC 1951)."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY)
    return deflater.compress(data) + deflater.flush()


def inflated(section: bytes, most: int = sys.maxsize) -> bytes:
    """Return what `deflated` deflated.

    Args:
        section: at least 1/1032 of what it inflates to.
        most: bytes that it may inflate to.

    Raises:
        TicketError: the section is not one that inflates, goes on behind its end, or inflates to more.

    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS, _DICTIONARY)
    try:
        data = inflater.decompress(section, min(most + 1, sys.maxsize))
    except zlib.error as error:
        raise TicketError(f"a section of it does not inflate ({error}).") from None
    if len(data) > most:
        raise TicketError(
            f"a section of it inflates {len(section):,} bytes to more than {most:,}; if you trust it, read it in Python"
            " with memory=, the bytes that it may take."
        )
    if not inflater.eof or inflater.unused_data:
        raise TicketError("a section of it does not inflate to its end.")
    return data
