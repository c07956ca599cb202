"""The page for people who have a video and no Python; an add-on over tracking, served by Gradio."""
