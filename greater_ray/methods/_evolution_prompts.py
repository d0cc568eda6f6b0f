"""What EvoPrompt asks the writer, in our own words, and the prompts that it starts from.

The request for a child shows one case worked out on another task, as the paper does; a child that copies it is refused.
"""

from greater_ray.methods._proposals import END_TAG, START_TAG
from greater_ray.methods._writer import chat
from greater_ray.types import Conversation

# Short triggers of step-by-step reasoning that fit any question; the paper's seeds for BBH are of this kind.
SEEDS = (
    "Think it through before you answer.",
    "Reason carefully, one step after the other.",
    "Split the problem into smaller parts and solve each of them.",
    "First list what is known, then work out the rest.",
    "Explain your reasoning, then give the answer.",
    "Let's solve this slowly and check each step.",
    "Work out the answer logically.",
    "Start with the facts and follow where they lead.",
    "Look at every detail of the question before you decide.",
    "Consider each possibility and rule out the wrong ones.",
    "Solve this as a careful teacher would at the board.",
    "Write down the intermediate results on the way to the answer.",
    "Make sure you understand the question, then solve it.",
    "Let's go through this in order.",
    "Answer only after you have verified your reasoning.",
    "Think about what is really being asked, then reason to the answer.",
    "Be precise and show your work.",
    "Take your time and think about this in detail.",
    "Plan how to solve the question, then carry out the plan.",
)

PARAPHRASE = (
    "Say the following prompt in different words. The meaning must stay the same. "
    f"Put your version between {START_TAG} and {END_TAG}."
)

GA_TASK = (
    "Breed a new prompt from two parent prompts, in two steps.\n"
    "Step 1. Cross the parents: combine parts of both into one prompt.\n"
    "Step 2. Mutate the result: change some of its wording or add an idea. "
    f"Put this final prompt between {START_TAG} and {END_TAG}."
)
GA_EXAMPLE = (
    "Parent 1: Translate the sentence to French.\n"
    "Parent 2: Give a French version that a native speaker would use.\n\n"
    "Step 1. Crossed: Translate the sentence to French as a native speaker would say it.\n"
    f"Step 2. {START_TAG}Translate the sentence to French, in the words that a native speaker would choose in daily "
    f"life.{END_TAG}"
)

DE_TASK = (
    "Make a new prompt from four given ones, in four steps.\n"
    "Step 1. Find the parts in which Prompt 1 and Prompt 2 differ.\n"
    "Step 2. Mutate these differing parts: find other wordings for them.\n"
    "Step 3. Put the mutated parts in the place of the parts of Prompt 3 that they fit, to get a combined prompt.\n"
    "Step 4. Cross the combined prompt with the basic prompt: take some parts from the one and some from the other. "
    f"Put this final prompt between {START_TAG} and {END_TAG}."
)
DE_EXAMPLE = (
    "Prompt 1: Sum up the article in one sentence.\n"
    "Prompt 2: Sum up the article for a child.\n"
    "Prompt 3: Write a summary of the article that names the main event.\n"
    "Basic prompt: Give the key points of the article.\n\n"
    'Step 1. Different parts: "in one sentence" and "for a child".\n'
    'Step 2. Mutated: "in very few words" and "in plain words".\n'
    "Step 3. Combined: Write a summary of the article in very few, plain words that names the main event.\n"
    f"Step 4. {START_TAG}Give the main event and the key points of the article in very few, plain words.{END_TAG}"
)
# What must not come back as a prompt.
WORDING = "\n".join((PARAPHRASE, GA_TASK, GA_EXAMPLE, DE_TASK, DE_EXAMPLE))


def paraphrase(text: str) -> Conversation:
    """Ask for the same prompt in other words."""
    return chat(f"{PARAPHRASE}\n\nPrompt: {text}")


def breed(first: str, second: str) -> Conversation:
    """Ask for a child of two parents: crossover, then mutation."""
    return chat(
        f"{GA_TASK}\n\nAn example:\n{GA_EXAMPLE}\n\nNow do both steps for these parents:\n"
        f"Parent 1: {first}\nParent 2: {second}\n\nStep 1."
    )


def differ(a: str, b: str, c: str, basic: str) -> Conversation:
    """Ask for a child by differential evolution: c + F(a - b), crossed with the basic prompt."""
    return chat(
        f"{DE_TASK}\n\nAn example:\n{DE_EXAMPLE}\n\nNow do all four steps for these prompts:\n"
        f"Prompt 1: {a}\nPrompt 2: {b}\nPrompt 3: {c}\nBasic prompt: {basic}\n\nStep 1."
    )
